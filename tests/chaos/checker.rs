//! The verdict: every second execution of a key is explained by a fault, and no earlier than the lease allows.
//!
//! Two executions of one key are fine when, at the time at which the second one got its claim,
//!
//! - the first had failed with a 5xx, which gives the key back, or
//! - the first one's lease could have run out, counted from its last renewal that took effect, and a fault hit its
//!   process, its way to the store, or the store while it should have been renewed.
//!
//! Nothing explains two handlers under one claim, or a claim that was sent after a record was known to be stored.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use crate::{
    clients::Answers,
    clock::Nanos,
    fault::{Fault, Kind, Target},
    ledger::Execution,
};

/// Stores count in milliseconds of another clock, so that a lease may seem to be that much shorter.
const SLACK: Nanos = 5_000_000;

/// All that happened in a run.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) lease: Nanos,
    pub(crate) executions: Vec<Execution>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) answers: HashMap<String, Answers>,
}

/// Why a second execution is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reason {
    /// The first gave the key back.
    Failed,
    Fault(Kind),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the first failed",
            Self::Fault(Kind::ServerKilled) => "server killed",
            Self::Fault(Kind::ServerStalled) => "server stalled",
            Self::Fault(Kind::StoreKilled) => "store killed",
            Self::Fault(Kind::StoreStalled) => "store stalled",
            Self::Fault(Kind::Silenced) => "connection silenced",
            Self::Fault(Kind::Delayed) => "command delayed",
            Self::Fault(Kind::Cut) => "connection cut",
            Self::Fault(Kind::Starved) => "server starved by the machine",
            Self::Fault(Kind::Slow) => "store slow by itself",
        })
    }
}

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wrong {
    /// A second execution without a fault.
    Unexplained,
    /// A second execution before the first one's lease could have run out.
    TooEarly,
    /// Two handlers under one claim.
    TwoUnderOneClaim,
    /// A claim of a key whose record was stored.
    AfterTheRecord,
    /// Two different answers that were said to be on record, or two first ones.
    DifferentAnswers,
    /// An answer that no execution of this key gave.
    ForeignAnswer,
    /// No answer at the end.
    Stuck,
}

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Executions of a key beyond its first, by reason.
    pub(crate) extra: BTreeMap<Reason, u64>,
    pub(crate) wrong: BTreeMap<Wrong, u64>,
    /// The first few, in words.
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    fn note(&mut self, wrong: Wrong, example: impl FnOnce() -> String) {
        *self.wrong.entry(wrong).or_default() += 1;
        if self.examples.len() < 5 {
            self.examples.push(format!("{wrong:?}: {}", example()));
        }
    }
}

pub(crate) fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let faults = Faults::new(&history.faults);
    let mut keys = HashMap::<&str, Vec<&Execution>>::new();
    for execution in &history.executions {
        keys.entry(&execution.key).or_default().push(execution);
    }
    for executions in keys.values_mut() {
        executions.sort_by_key(|execution| execution.claimed);
        check_executions(history.lease, &faults, executions, &mut verdict);
    }
    for (key, answers) in &history.answers {
        check_answers(key, answers, keys.get(&**key).map_or(&[][..], |executions| executions), &mut verdict);
    }
    verdict
}

fn check_executions(lease: Nanos, faults: &Faults<'_>, executions: &[&Execution], verdict: &mut Verdict) {
    for (at, second) in executions.iter().enumerate() {
        if second.begins > 1 {
            verdict.note(Wrong::TwoUnderOneClaim, || format!("{second:?}"));
        }
        // What it follows on is the one before it, whose reason is the one that is counted.
        let mut reason = None;
        let beside = executions[..at].iter().find_map(|first| {
            let explained = explain_either_way(lease, faults, first, second);
            reason = explained.ok();
            explained.err().map(|wrong| (wrong, first))
        });
        match (beside, reason) {
            (Some((wrong, first)), _) => verdict.note(wrong, || format!("{second:?} beside {first:?}")),
            (None, Some(reason)) => *verdict.extra.entry(reason).or_default() += 1,
            (None, None) => {}
        }
    }
}

/// Where it is not known which of two claims the store executed first, one order has to be fine.
fn explain_either_way(
    lease: Nanos,
    faults: &Faults<'_>,
    first: &Execution,
    second: &Execution,
) -> Result<Reason, Wrong> {
    let reason = explain(lease, faults, first, second);
    let overlap = second.claimed.0 <= first.claimed.1;
    if reason.is_err() && overlap { explain(lease, faults, second, first).or(reason) } else { reason }
}

/// Why `second` could get its claim after `first` had got its own.
fn explain(lease: Nanos, faults: &Faults<'_>, first: &Execution, second: &Execution) -> Result<Reason, Wrong> {
    let (sent, acquired) = second.claimed;
    if first.recorded.is_some_and(|recorded| recorded < sent) {
        return Err(Wrong::AfterTheRecord);
    }
    if first.ended.is_some_and(|(ended, status)| status >= 500 && ended <= acquired) {
        return Ok(Reason::Failed);
    }
    let held = first.renewed.iter().copied().fold(first.claimed.0, Nanos::max);
    let fault = faults.between(first.process, held, held + lease);
    match fault {
        None => Err(Wrong::Unexplained),
        Some(_) if acquired + SLACK < held + lease => Err(Wrong::TooEarly),
        Some(kind) => Ok(Reason::Fault(kind)),
    }
}

fn check_answers(key: &str, answers: &Answers, executions: &[&Execution], verdict: &mut Verdict) {
    if answers.recorded.len() > 1 || answers.firsts > 1 {
        verdict.note(Wrong::DifferentAnswers, || format!("{key}: {answers:?}"));
    }
    let gave = |body: &String| {
        let is_it = |execution: &&Execution| *body == format!("{} {key}", execution.token);
        executions.iter().any(|execution| is_it(execution) && execution.ended.is_some_and(|(_, status)| status == 201))
    };
    if !answers.recorded.iter().all(gave) {
        verdict.note(Wrong::ForeignAnswer, || format!("{key}: {answers:?}"));
    }
    if !answers.settled {
        verdict.note(Wrong::Stuck, || format!("{key}: {answers:?}"));
    }
}

/// The faults by whom they hit.
struct Faults<'a> {
    store: Vec<&'a Fault>,
    processes: HashMap<u32, Vec<&'a Fault>>,
}

impl<'a> Faults<'a> {
    fn new(all: &'a [Fault]) -> Self {
        let mut faults = Self { store: Vec::new(), processes: HashMap::new() };
        for fault in all.iter().filter(|fault| fault.kind.costs_leases()) {
            match fault.target {
                Target::Store => faults.store.push(fault),
                Target::Process(process) => faults.processes.entry(process).or_default().push(fault),
            }
        }
        faults
    }

    /// The gravest fault that kept `process` from its store at some time from `from` to `to`.
    fn between(&self, process: u32, from: Nanos, to: Nanos) -> Option<Kind> {
        let of_process = self.processes.get(&process).into_iter().flatten();
        let hits = of_process.chain(&self.store).filter(|fault| fault.from <= to && fault.to >= from);
        hits.map(|fault| fault.kind).min()
    }
}

#[path = "checker_tests.rs"]
mod tests;
