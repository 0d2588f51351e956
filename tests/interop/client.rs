//! Clients, as processes.

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Where `tests/run` has installed them.
fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop").join(path);
    assert!(path.exists(), "{} is missing: `tests/run --interop` installs it", path.display());
    path
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/clients").join(name)
}

/// A script with an SDK. It speaks Python or JavaScript, as its name says.
pub(crate) fn sdk(name: &str) -> Command {
    let mut command = if name.ends_with(".py") {
        Command::new(installed("python/bin/python"))
    } else {
        let mut node = Command::new("node");
        node.env("NODE_PATH", installed("node/node_modules"));
        node
    };
    command.arg(script(name));
    command
}

pub(crate) fn wrk(url: &str) -> Command {
    let mut command = Command::new("wrk");
    command.args(["--threads", "2", "--connections", "20", "--duration", "1s", "--script"]).arg(script("pay.lua"));
    command.arg(format!("{url}/payments")).arg("--");
    command
}

/// The lines that it prints.
pub(crate) async fn lines(command: &mut Command) -> Vec<String> {
    // Nothing but this machine is asked for anything.
    let output = command.env("NO_PROXY", "*").output().await.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [said, complained] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{command:?}: {said}{complained}");
    said.lines().map(str::to_owned).collect()
}
