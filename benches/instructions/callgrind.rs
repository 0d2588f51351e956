//! Runs a case of this program under callgrind, and reads what it has written.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::case::{COUNT, MEASURED};

/// What all counted requests of a case took.
#[derive(Debug, Default)]
pub(crate) struct Total {
    /// By all functions but those of SHA-256.
    pub(crate) instructions: u64,
    pub(crate) hashing: u64,
    pub(crate) allocations: u64,
}

/// Valgrind hides the processor's own instructions for SHA-256: hashing is far dearer under it than in truth, and would
/// drown everything else. So it is counted apart.
const HASHING: &str = "sha2::sha256::";

impl Total {
    pub(crate) fn of(case: &str) -> Self {
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{case}"));
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
            .args(["--collect-atstart=no", &format!("--toggle-collect={MEASURED}")])
            .arg(format!("--callgrind-out-file={}", written.display()))
            .arg(env::current_exe().expect("this program has a path"))
            .args(["--case", case])
            .stderr(Stdio::inherit());
        let output = valgrind.output().expect("valgrind is there: tests/run installs it");
        assert!(output.status.success(), "{case} under valgrind: {}", output.status);
        let mut total = Self::read(&fs::read_to_string(&written).expect("callgrind has written"));
        total.allocations = String::from_utf8_lossy(&output.stdout).trim().parse().expect("the case prints them");
        assert!(total.instructions + total.hashing > u64::from(COUNT), "callgrind did not see {MEASURED}");
        total
    }

    /// Reads what is at <https://valgrind.org/docs/manual/cl-format.html>. Of the lines that follow a call the first is
    /// what the called function took, which counts where that function is listed itself.
    fn read(profile: &str) -> Self {
        let mut total = Self::default();
        let (mut hashes, mut after_a_call) = (false, false);
        for line in profile.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                hashes = name.contains(HASHING);
            } else if line.starts_with("calls=") {
                after_a_call = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let sum = if hashes { &mut total.hashing } else { &mut total.instructions };
                *sum += if after_a_call { 0 } else { instructions(line) };
                after_a_call = false;
            }
        }
        total
    }
}

/// The second of the two numbers of a line: the first says where.
fn instructions(line: &str) -> u64 {
    line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("lines of callgrind are as its manual says")
}
