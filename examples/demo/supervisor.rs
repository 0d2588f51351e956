//! Starts a node, kills it where it asks for it, and starts it again.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::sleep,
};

use crate::{
    Result,
    journal::Journal,
    report::{Report, What},
};

/// Long enough to see that a node is gone.
const DOWNTIME: Duration = Duration::from_secs(3);

pub(crate) async fn keep_running(name: &'static str, folder: PathBuf, journal: Arc<Journal>) -> Result<()> {
    loop {
        let node = start(name, &folder)?;
        let process = node.id().unwrap_or_default();
        follow(node, &journal).await?;
        journal.note(&Report::of_node(name, What::Killed { process }));
        sleep(DOWNTIME).await;
    }
}

/// This program once more. Its standard input is closed when this process ends, however it does.
fn start(name: &str, folder: &Path) -> Result<Child> {
    let mut program = Command::new(env::current_exe()?);
    program.arg("node").arg(name).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(program.kill_on_drop(true).spawn()?)
}

/// Until it has ended.
async fn follow(mut node: Child, journal: &Journal) -> Result<()> {
    let mut lines = BufReader::new(node.stdout.take().ok_or("has no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        let report: Report = serde_json::from_str(&line)?;
        if report.what == What::KillMe {
            node.start_kill()?; // SIGKILL: nothing of it can clean up
        }
        journal.note(&report);
    }
    node.wait().await?;
    Ok(())
}
