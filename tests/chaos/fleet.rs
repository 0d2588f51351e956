//! The processes of a run: the applications and the store, with what can be done to them.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tower_idempotency::PostgresBackend;

use crate::{
    application::{ROLE, Store, Terms},
    postgres_server, redis_server,
    servers::{Supervisor, fresh_directory},
    witness::Build,
};

/// An application process. It ends when this is dropped, or with the test process.
#[derive(Debug)]
pub(crate) struct Application {
    supervisor: Mutex<Supervisor>,
    pub(crate) port: u16,
    process: AtomicU32,
}

impl Application {
    /// Prepares an application that is to run in `directory`, which it removes at its end.
    pub(crate) fn new(terms: &Terms, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let role = format!("{ROLE}={}", serde_json::to_string(terms).unwrap());
        let program = std::env::current_exe().unwrap();
        let arguments = ["an_application_pays_once_and_replays", "--exact", "--nocapture"].map(Into::into);
        let command = [&["env".into(), role.into(), program.into_os_string()][..], &arguments].concat();
        let supervisor = Mutex::new(Supervisor::new(directory, "KILL", &command));
        Self { supervisor, port: terms.port, process: AtomicU32::new(0) }
    }

    /// Starts the process, waits until it serves, and returns its id.
    pub(crate) fn start(&self) -> u32 {
        let id = self.order("start");
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.ask_process().as_deref() != Some(&id) {
            assert!(Instant::now() < deadline, "the application on port {} does not start", self.port);
            thread::sleep(Duration::from_millis(3));
        }
        let process = id.parse().unwrap();
        self.process.store(process, Ordering::SeqCst);
        process
    }

    /// The process id of whoever serves on the port.
    fn ask_process(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /process HTTP/1.1\r\nhost: chaos\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.rsplit("\r\n\r\n").next()?.to_owned())
    }

    /// The id of the process, or that of the last one.
    pub(crate) fn process(&self) -> u32 {
        self.process.load(Ordering::SeqCst)
    }

    /// `KILL`, which waits until the process is gone, `STOP` or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        self.order(signal);
    }

    fn order(&self, word: &str) -> String {
        self.supervisor.lock().unwrap().order(word)
    }
}

/// The store. It keeps what it has acknowledged when its process is killed: one that forgets forgets the promise, and
/// nothing could be told from a second execution.
#[derive(Debug)]
pub(crate) enum StoreServer {
    Redis(redis_server::Server),
    Postgres(postgres_server::Server),
}

impl StoreServer {
    pub(crate) async fn start(store: Store, build: Build) -> Self {
        match store {
            Store::Redis if build == Build::ForgetfulStore => Self::Redis(redis_server::Server::start(&[])),
            // `everysec` would acknowledge up to a second of writes that may not have reached the file.
            Store::Redis => Self::Redis(redis_server::Server::start(&["appendonly yes", "appendfsync always"])),
            // It writes its log before it answers. What is written survives the process, though not the machine.
            Store::Postgres => {
                let server = postgres_server::Server::start(&[]);
                PostgresBackend::new(server.pool(1)).migrate().await.expect("the server is up");
                Self::Postgres(server)
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Redis(server) => server.port(),
            Self::Postgres(server) => server.port(),
        }
    }

    pub(crate) fn kill(&self) {
        match self {
            Self::Redis(server) => server.kill(),
            Self::Postgres(server) => server.kill(),
        }
    }

    /// Starts it again, and waits until it serves.
    pub(crate) fn restart(&self) {
        match self {
            Self::Redis(server) => server.restart(),
            Self::Postgres(server) => server.restart(),
        }
    }

    pub(crate) fn pause(&self) {
        match self {
            Self::Redis(server) => server.pause(),
            Self::Postgres(server) => server.pause(),
        }
    }

    pub(crate) fn resume(&self) {
        match self {
            Self::Redis(server) => server.resume(),
            Self::Postgres(server) => server.resume(),
        }
    }
}

/// The directory of a run. It is removed at the end, unless something was wrong.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    keep: AtomicBool,
}

impl Directory {
    pub(crate) fn fresh() -> Self {
        Self { path: fresh_directory(), keep: AtomicBool::new(false) }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::SeqCst);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::SeqCst) && !thread::panicking() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
