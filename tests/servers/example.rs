//! An example, as a user runs it.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A running example. Ended by its process id when the test is over.
pub(crate) struct Example {
    pub(crate) process: Child,
    pub(crate) url: String,
    /// The command lines that it printed.
    pub(crate) commands: Vec<String>,
}

impl Example {
    pub(crate) fn start(name: &str, arguments: &[&str], commands: usize) -> Self {
        let mut process =
            Command::new(path(name)).args(arguments).stdout(Stdio::piped()).spawn().expect("the example starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let url = lines.next().unwrap().strip_prefix("listening on ").expect("says where it listens").to_owned();
        let commands = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).take(commands).collect();
        Self { process, url, commands }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Examples are built beside the tests by `cargo test`.
pub(crate) fn path(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(path.exists(), "run `cargo build --examples` first: {} is missing", path.display());
    path
}
