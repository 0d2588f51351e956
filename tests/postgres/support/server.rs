//! One real PostgreSQL server, with a directory and a port of its own.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tower_idempotency::sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::servers::{Supervisor, free_port, fresh_directory};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every server here has. A test kills processes, not the machine, so that nothing has to reach the disk.
const OPTIONS: [&str; 5] = [
    "listen_addresses = '127.0.0.1'",
    "fsync = off",
    "max_connections = 400",
    "shared_buffers = 32MB",
    "shared_preload_libraries = 'pg_stat_statements'",
];

/// A server that ends when this is dropped, or with the test process.
#[derive(Debug)]
pub(crate) struct Server {
    supervisor: Mutex<Supervisor>,
    port: u16,
    directory: PathBuf,
}

impl Server {
    /// Starts a server. `options` are lines of its configuration, in addition to those that every server here has.
    pub(crate) fn start(options: &[&str]) -> Self {
        let directory = fresh_directory();
        let data = directory.join("data");
        create(&data);
        // At SIGQUIT it ends its processes and leaves no shared memory behind.
        let mut start = as_server_user();
        start.extend([program("postgres"), "-D".into(), data.clone().into()]);
        let supervisor = Mutex::new(Supervisor::new(&directory, "QUIT", &start));
        let mut server = Self { supervisor, port: 0, directory };
        // Between the choice of a port and its use somebody else may have taken it.
        for _ in 0..10 {
            server.port = free_port();
            let mut lines = [&OPTIONS[..], options].concat().join("\n");
            let _ = write!(lines, "\nport = {}\nunix_socket_directories = '{}'\n", server.port, data.display());
            fs::write(data.join("test.conf"), lines).unwrap();
            if server.begin() {
                return server;
            }
        }
        panic!("no port could be had for a PostgreSQL server");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How to connect to it.
    pub(crate) fn address(&self) -> PgConnectOptions {
        address_at(self.port)
    }

    /// A pool of up to `connections`.
    pub(crate) fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new().max_connections(connections).connect_lazy_with(self.address())
    }

    /// `kill -9`, and waits until the process is gone. Its children notice, and end.
    pub(crate) fn kill(&self) {
        self.order("KILL");
    }

    /// Ends it at once, without a word to those who are connected.
    #[allow(dead_code, reason = "tests/ledger does")]
    pub(crate) fn shut_down(&self) {
        self.order("QUIT");
    }

    /// Starts a killed server again, on the same port and with what its directory holds.
    pub(crate) fn restart(&self) {
        assert!(self.begin(), "port {} was taken meanwhile", self.port);
    }

    /// Stops the server and its processes where they stand, until they are resumed. Their sockets stay open.
    #[allow(dead_code, reason = "every test target uses a part of this module")]
    pub(crate) fn pause(&self) {
        // First the one that could start others meanwhile.
        self.order("STOP");
        self.signal_children("-STOP");
    }

    /// Lets a paused server go on.
    #[allow(dead_code, reason = "every test target uses a part of this module")]
    pub(crate) fn resume(&self) {
        self.signal_children("-CONT");
        self.order("CONT");
    }

    fn signal_children(&self, signal: &str) {
        let status = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap_or_default();
        let server = status.lines().next().unwrap_or_default();
        let _ = Command::new("pkill").args([signal, "-P", server]).status().expect("every system has `pkill`");
    }

    /// Starts the process, and waits until it serves. `false`: its port is taken.
    fn begin(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut id = self.order("start");
        while Instant::now() < deadline {
            let status = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap_or_default();
            let mut status = status.lines().map(str::trim);
            if status.next() == Some(&id) && status.nth(6) == Some("ready") {
                return true;
            }
            let output = self.output();
            if output.contains("could not create any TCP/IP sockets") {
                return false;
            }
            // Children of the one that was killed are still there.
            if output.contains("is still in use") || output.contains("already exists") {
                id = self.order("start");
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("PostgreSQL does not start:\n{}", self.output());
    }

    /// What it has said since it was started.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.directory.join("output")).unwrap_or_default()
    }

    fn order(&self, word: &str) -> String {
        self.supervisor.lock().unwrap().order(word)
    }
}

/// How to connect to a server on `port` of this machine.
pub(crate) fn address_at(port: u16) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("postgres").database("postgres")
}

/// Makes the files of a new server.
fn create(data: &Path) {
    fs::create_dir(data).unwrap();
    if let Some(user) = server_user() {
        run(&["chown".into(), user.into(), data.into()]);
    }
    let mut command = as_server_user();
    command.extend([program("initdb"), "-D".into(), data.into()]);
    command.extend(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"].map(OsString::from));
    run(&command);
    let configuration = data.join("postgresql.conf");
    let lines = fs::read_to_string(&configuration).unwrap();
    fs::write(configuration, lines + "\ninclude 'test.conf'\n").unwrap();
}

fn run(command: &[OsString]) {
    let output = Command::new(&command[0]).args(&command[1..]).current_dir("/").output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; `tests/run` installs PostgreSQL"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where a server is no good as root, the user who runs it.
fn server_user() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output().expect("every system has `id`").stdout;
    (id.trim_ascii() == b"0").then_some("postgres")
}

/// The beginning of a command that is to run as that user.
pub(super) fn as_server_user() -> Vec<OsString> {
    let user = server_user()
        .map(|user| ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"].map(OsString::from).to_vec());
    user.unwrap_or_default()
}

/// A program of the newest PostgreSQL that is installed. Debian keeps them where no path leads.
fn program(name: &str) -> OsString {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    match installed.max_by_key(version) {
        Some(newest) => newest.join("bin").join(name).into_os_string(),
        None => name.into(),
    }
}
