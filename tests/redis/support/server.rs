//! One real `redis-server` process.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use redis::{FromRedisValue, RedisResult};

use crate::servers::{Supervisor, free_port, fresh_directory};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

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
            let mut command = vec!["redis-server".into(), directory.join("redis.conf").into_os_string()];
            command.extend(arguments.iter().map(OsString::from));
            let supervisor = Mutex::new(Supervisor::new(&directory, "KILL", &command));
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

fn assert_can_start() {
    let version = Command::new("redis-server").arg("--version").output();
    let version = version.expect("these tests need redis-server 7 or later: `tests/run` installs it").stdout;
    let version = String::from_utf8_lossy(&version);
    let major = version.split("v=").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    assert!(major >= Some(7), "these tests need redis-server 7 or later, not {version}");
}
