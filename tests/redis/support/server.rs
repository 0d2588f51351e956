//! One real `redis-server` process.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use redis::{FromRedisValue, RedisResult};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the server and signals it, as the lines of its input say. It alone knows the process as its child, so no signal
/// can meet another process that was given the same id. Its input ends with the test process, however that ends: then it
/// ends the server and removes the directory.
const SUPERVISOR: &str = r#"
directory=$1; shift
while read -r word; do
    case $word in
        start) redis-server "$@" >/dev/null 2>&1 & server=$!; echo "$server" ;;
        KILL) kill -s KILL "$server"; wait "$server" 2>/dev/null; echo gone ;;
        *) kill -s "$word" "$server"; echo done ;;
    esac
done
kill -s KILL "$server" 2>/dev/null
wait "$server" 2>/dev/null
rm -rf "$directory"
"#;

/// A server with a port and a directory of its own. It ends when this is dropped, or with the test process.
#[derive(Debug)]
pub(crate) struct Server {
    supervisor: Mutex<Supervisor>,
    port: u16,
    directory: PathBuf,
}

impl Server {
    /// Starts a server. `options` are lines of its configuration, in addition to those that every server here has.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_as(&[], |port| {
            let common = ["save \"\"", "enable-debug-command yes"];
            let options = common.iter().chain(options).map(|&option| option.to_owned());
            options.chain([format!("port {port}")]).collect()
        })
    }

    /// Starts a server with the configuration that `lines` makes for its port. `arguments` follow on the command line.
    pub(crate) fn start_as(arguments: &[&str], lines: impl Fn(u16) -> Vec<String>) -> Self {
        assert_can_start();
        // Between the choice of a port and its use somebody else may have taken it.
        for _ in 0..10 {
            let port = free_port();
            let directory = fresh_directory();
            let common = ["bind 127.0.0.1", "protected-mode no", "logfile log", "daemonize no"].map(str::to_owned);
            let lines = [&common[..], &lines(port), &[format!("dir {}", directory.display())]].concat();
            fs::write(directory.join("redis.conf"), lines.join("\n")).unwrap();
            let supervisor = Mutex::new(Supervisor::new(&directory, arguments));
            let server = Self { supervisor, port, directory };
            if server.begin() {
                return server;
            }
        }
        panic!("no port could be had for a redis-server");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Sends one command, its words separated by blanks.
    #[track_caller]
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        self.try_ask(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Sends one command, which may fail.
    pub(crate) fn try_ask<T: FromRedisValue>(&self, command: &str) -> RedisResult<T> {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connect()?)
    }

    /// A connection beside those under test.
    pub(crate) fn connect(&self) -> RedisResult<redis::Connection> {
        let connection = redis::Client::open(self.url())?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(&self) {
        self.order("KILL");
    }

    /// Starts a killed server again, on the same port and with what its directory holds.
    pub(crate) fn restart(&self) {
        assert!(self.begin(), "port {} was taken meanwhile", self.port);
    }

    /// Stops the process where it stands, until it is resumed. Its sockets stay open.
    pub(crate) fn pause(&self) {
        self.order("STOP");
    }

    /// Lets a paused process go on.
    pub(crate) fn resume(&self) {
        self.order("CONT");
    }

    /// Starts the process, and waits until it serves. `false`: its port is taken.
    fn begin(&self) -> bool {
        let log = self.directory.join("log");
        let _ = fs::remove_file(&log);
        let id = self.order("start");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // By its process id, since another server may have the port.
            let serves = |info: &String| info.contains(&format!("process_id:{id}\r")) && !info.contains("loading:1");
            if self.try_ask("INFO").is_ok_and(|info: String| serves(&info)) {
                return true;
            }
            if fs::read_to_string(&log).is_ok_and(|log| log.contains("Failed listening")) {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("redis-server does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    fn order(&self, word: &str) -> String {
        self.supervisor.lock().unwrap().order(word)
    }
}

#[derive(Debug)]
struct Supervisor {
    shell: Child,
    /// `None`: the shell has been told to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    fn new(directory: &Path, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .args([directory, &directory.join("redis.conf")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What interrupts the tests must not reach the shell, which has to end the server.
            .process_group(0)
            .spawn()
            .expect("there is a shell");
        let orders = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("it is piped"));
        Self { shell, orders, answers }
    }

    fn order(&mut self, word: &str) -> String {
        let orders = self.orders.as_mut().expect("the server has not ended");
        writeln!(orders, "{word}").expect("the supervisor lives as long as the test");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.shell.wait();
    }
}

/// A port that nobody listens on, below those that systems give to outgoing connections: a server that is restarted has
/// to find its port free.
pub(crate) fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..32_000)).find(free).expect("the iterator does not end")
}

fn fresh_directory() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("tower-idempotency-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&directory); // left behind by an earlier process of the same id
    fs::create_dir(&directory).unwrap();
    directory
}

fn assert_can_start() {
    let version = Command::new("redis-server").arg("--version").output();
    let version = version.expect("these tests need redis-server 7 or later: `tests/run` installs it").stdout;
    let version = String::from_utf8_lossy(&version);
    let major = version.split("v=").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    assert!(major >= Some(7), "these tests need redis-server 7 or later, not {version}");
}
