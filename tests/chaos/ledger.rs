//! The ledger: what the applications did, one line for each thing, written where no fault reaches it.
//!
//! Each line is appended by one write, before what it tells can be seen from outside. A process that is killed between
//! two lines leaves both whole.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

use crate::clock::{Nanos, now};

/// Where a process writes.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).expect("the ledger can be written"))
    }

    /// A claim was acquired, which was first sent at `sent`.
    pub(crate) fn claimed(&self, token: &str, sent: Nanos) {
        self.write(&format!("claim {token} {sent} {}", now()));
    }

    /// A handler begins.
    pub(crate) fn begun(&self, token: &str, key: &str) {
        self.write(&format!("begin {token} {} {} {key}", now(), std::process::id()));
    }

    /// A handler has decided on its answer.
    pub(crate) fn ended(&self, token: &str, status: u16) {
        self.write(&format!("end {token} {} {status}", now()));
    }

    /// A renewal that was sent at `sent` took effect.
    pub(crate) fn renewed(&self, token: &str, sent: Nanos) {
        self.write(&format!("renew {token} {sent}"));
    }

    /// The record is stored.
    pub(crate) fn recorded(&self, token: &str) {
        self.write(&format!("record {token} {}", now()));
    }

    /// This process did not get on from `from` to now, though nobody stopped it.
    pub(crate) fn starved(&self, from: Nanos) {
        self.write(&format!("starved {} {from} {}", std::process::id(), now()));
    }

    fn write(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).expect("the ledger can be written");
    }
}

/// One run of a handler, as the ledger has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) key: String,
    pub(crate) token: String,
    pub(crate) process: u32,
    /// When its claim was first sent, and when it was answered. It was executed in between.
    pub(crate) claimed: (Nanos, Nanos),
    pub(crate) begun: Nanos,
    pub(crate) ended: Option<(Nanos, u16)>,
    /// When the renewals that took effect were sent.
    pub(crate) renewed: Vec<Nanos>,
    /// When its record was known to be stored.
    pub(crate) recorded: Option<Nanos>,
    /// How often a handler began with this token.
    pub(crate) begins: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) executions: Vec<Execution>,
    /// Process, and from when to when it did not get on.
    pub(crate) starved: Vec<(u32, Nanos, Nanos)>,
}

pub(crate) fn read(path: &Path) -> Account {
    let (mut claims, mut starved) = (HashMap::<&str, Execution>::new(), Vec::new());
    let text = fs::read_to_string(path).expect("the ledger can be read");
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
        let process = |at: usize| words[at].parse::<u32>().unwrap_or_else(|_| panic!("{line}"));
        if words[0] == "starved" {
            starved.push((process(1), number(2), number(3)));
            continue;
        }
        let claim = claims.entry(words[1]).or_default();
        match words[0] {
            "claim" => claim.claimed = (number(2), number(3)),
            "begin" => {
                (claim.begun, claim.process) = (number(2), process(3));
                (claim.token, claim.key) = (words[1].to_owned(), words[4].to_owned());
                claim.begins += 1;
            }
            "end" => claim.ended = Some((number(2), words[3].parse().unwrap_or_else(|_| panic!("{line}")))),
            "renew" => claim.renewed.push(number(2)),
            "record" => claim.recorded = Some(number(2)),
            _ => panic!("{line}"),
        }
    }
    // A claim whose handler never began is no execution.
    let executions = claims.into_values().filter(|claim| claim.begins > 0).collect();
    Account { executions, starved }
}
