//! A process of the application.

use std::{
    env,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::servers::{Supervisor, fresh_directory};

/// A process that can be killed and started again. It ends when this is dropped, or with the test process.
#[derive(Debug)]
pub(crate) struct Process {
    supervisor: Mutex<Supervisor>,
    directory: PathBuf,
    /// `None`: it has been killed.
    address: Mutex<Option<SocketAddr>>,
}

impl Process {
    /// One that `command` starts, and which says where it listens.
    pub(crate) fn new(command: &[OsString]) -> Self {
        let directory = fresh_directory();
        Self {
            supervisor: Mutex::new(Supervisor::new(&directory, "KILL", command)),
            directory,
            address: Mutex::default(),
        }
    }

    /// Starts it, unless it lives, and again and again while the database is not there yet.
    pub(crate) async fn start(&self) {
        if self.address().is_some() {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        self.order("start");
        loop {
            let said = fs::read_to_string(self.directory.join("output")).unwrap_or_default();
            if let Some(address) = said.lines().find_map(|line| line.split("listening on http://").nth(1)) {
                *self.address.lock().unwrap() = Some(address.parse().unwrap());
                return;
            }
            assert!(Instant::now() < deadline, "the application does not start: {said}");
            if said.contains("Error: ") || said.contains("panicked") {
                sleep(Duration::from_millis(50)).await;
                self.order("start");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(&self) {
        let address = self.address.lock().unwrap().take();
        // Two blows may not meet: what is not started is not killed.
        if address.is_some() {
            self.order("KILL");
        }
    }

    /// It stands still where it is.
    pub(crate) fn pause(&self) {
        self.order("STOP");
    }

    pub(crate) fn resume(&self) {
        self.order("CONT");
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap()
    }

    fn order(&self, word: &str) {
        self.supervisor.lock().unwrap().order(word);
    }
}

/// The example, which `cargo test` builds beside the tests.
pub(crate) fn example() -> OsString {
    let tests = env::current_exe().unwrap();
    let path = tests.parent().unwrap().with_file_name("examples").join("axum_postgres");
    assert!(path.exists(), "run `cargo build --all-features --examples` first: {} is missing", path.display());
    path.into()
}
