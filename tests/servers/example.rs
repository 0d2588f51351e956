//! An example, as a user runs it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

/// A running example. Ended by its process id when the test is over.
pub(crate) struct Example {
    process: Child,
    /// For what it keeps while it runs.
    folder: PathBuf,
    pub(crate) url: String,
    /// The command lines that it printed.
    pub(crate) commands: Vec<String>,
}

impl Example {
    pub(crate) fn start(name: &str, arguments: &[&str], commands: usize) -> Self {
        let mut command = Command::new(path(name));
        let folder = fresh_folder();
        command.args(arguments).env("TMPDIR", &folder).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the example starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let url = lines.next().unwrap().strip_prefix("listening on ").expect("says where it listens").to_owned();
        let commands = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).take(commands).collect();
        Self { process, folder, url, commands }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A disk that others use may take longer to write than a lease lives: in memory, where there is a place for it.
fn fresh_folder() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    let folder = place.join(format!("tower_idempotency_example_{}_{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Examples are built beside the tests by `cargo test`.
pub(crate) fn path(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(path.exists(), "run `cargo build --examples` first: {} is missing", path.display());
    path
}
