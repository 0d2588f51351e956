//! The figures of each case, as they are committed, and what of them has changed.

use std::{fmt, process::Command};

use crate::case::CASES;

/// Of the counted instructions, on the machine of the file.
const MARGIN: f64 = 0.05;
/// The same, of their ratio to bare, where compiler, C library or valgrind are others.
const ELSEWHERE: f64 = 0.12;
/// Of allocations, and of blocks hashed, anywhere.
const HALF: f64 = 0.5;

/// What one request takes on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    /// But for those of SHA-256.
    pub(crate) instructions: f64,
    /// Blocks of 64 bytes through SHA-256.
    pub(crate) blocks: f64,
    pub(crate) allocations: f64,
}

/// The figures of all [`CASES`], and where they were counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) environment: String,
    pub(crate) rows: Vec<Figures>,
}

const HEAD: &str = "\
# What a request costs on average, without the noise of a machine. Compared by `cargo test --release --bench instructions`,
# written by `benches/run instructions`. Instructions are those of all but SHA-256, of which blocks of 64 bytes are counted.
";

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{HEAD}environment: {}\n{:10}{:>14}{:>8}{:>13}\n",
            self.environment, "case", "instructions", "blocks", "allocations"
        )?;
        CASES.iter().zip(&self.rows).try_for_each(|(case, row)| {
            writeln!(f, "{case:10}{:14.0}{:8.1}{:13.2}", row.instructions, row.blocks, row.allocations)
        })
    }
}

impl Table {
    /// Reads what `Display` writes. `None`: it is something else, or of other cases.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let environment = lines.next()?.strip_prefix("environment: ")?.to_owned();
        let rows = lines.skip(1).zip(CASES).map(|(line, case)| {
            let mut words = line.split_whitespace();
            (words.next()? == case).then_some(())?;
            let mut next = || words.next()?.parse().ok();
            Some(Figures { instructions: next()?, blocks: next()?, allocations: next()? })
        });
        let rows = rows.collect::<Option<Vec<_>>>()?;
        (rows.len() == CASES.len()).then_some(Self { environment, rows })
    }

    /// What is out of its margin, a sentence each. Above: it has become dearer. Below: the file is to be updated.
    pub(crate) fn complaints(&self, committed: &Self) -> Vec<String> {
        let elsewhere = self.environment != committed.environment;
        let mut complaints = Vec::new();
        for (row, case) in CASES.iter().enumerate() {
            let mut judge = |what: &str, now: f64, before: f64, margin: f64| {
                if (now - before).abs() > margin {
                    let more = if now > before { "MORE" } else { "fewer" };
                    complaints.push(format!(
                        "{case}: {more} {what}, {now:.2} instead of {before:.2}, which may differ by {margin:.2}"
                    ));
                }
            };
            let [(now, bare), (before, bare_before)] = [self, committed].map(|table| (table.rows[row], table.rows[0]));
            if elsewhere {
                let [now, before] =
                    [now.instructions / bare.instructions, before.instructions / bare_before.instructions];
                judge("instructions, of bare's", now, before, before * ELSEWHERE);
            } else {
                judge("instructions", now.instructions, before.instructions, before.instructions * MARGIN);
            }
            judge("blocks hashed", now.blocks, before.blocks, HALF);
            judge(
                "allocations than bare",
                now.allocations - bare.allocations,
                before.allocations - bare_before.allocations,
                HALF,
            );
        }
        complaints
    }
}

/// All that changes instruction counts while the code is the same.
pub(crate) fn environment() -> String {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().expect("the program is there");
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    };
    let architecture = std::env::consts::ARCH;
    let [rustc, library, valgrind] =
        [("rustc", "--version"), ("getconf", "GNU_LIBC_VERSION"), ("valgrind", "--version")]
            .map(|(program, argument)| first_line(program, argument));
    format!("{architecture}, {rustc}, {library}, {valgrind}")
}
