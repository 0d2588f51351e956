//! A process that starts a server, and ends it whatever becomes of the tests.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

/// Starts the server and signals it, as the lines of its input say. It alone knows the process as its child, so no signal
/// can meet another process that was given the same id. Its input ends with the test process, however that ends: then it
/// ends the server and removes the directory.
///
/// When it has started a server, what an earlier one has said is gone: it must not be taken for the word of this one.
const SUPERVISOR: &str = r#"
directory=$1; end=$2; shift 2
while read -r word; do
    case $word in
        start) : >"$directory/output"; "$@" >"$directory/output" 2>&1 & server=$!; echo "$server" ;;
        KILL) kill -s KILL "$server"; wait "$server" 2>/dev/null; echo gone ;;
        *) kill -s "$word" "$server"; echo done ;;
    esac
done
kill -s "$end" "$server" 2>/dev/null
wait "$server" 2>/dev/null
rm -rf "$directory"
"#;

#[derive(Debug)]
pub(crate) struct Supervisor {
    shell: Child,
    /// `None`: the shell has been told to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    /// A supervisor of the server that `command` starts, and which ends at the signal `end`. The command's output goes to
    /// the file `output` in `directory`.
    pub(crate) fn new(directory: &Path, end: &str, command: &[OsString]) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(directory)
            .arg(end)
            .args(command)
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

    /// `start`, or the name of a signal. Returns the process id of a server that was started.
    pub(crate) fn order(&mut self, word: &str) -> String {
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

/// A directory that nobody else uses.
pub(crate) fn fresh_directory() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("tower-idempotency-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&directory); // left behind by an earlier process of the same id
    fs::create_dir(&directory).unwrap();
    directory
}
