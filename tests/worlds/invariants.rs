//! What holds in every world. Each invariant returns what contradicts it.

use std::time::Duration;

use crate::{
    client::key,
    plan::{LEASE, Plan, TIMEOUT},
    service::{Book, Entry},
    world::Aftermath,
};

type Verdict = Result<(), String>;
type Invariant = fn(&Aftermath, &Book) -> Verdict;

/// All of them, by their names. That every client is answered is what a world ends with.
const INVARIANTS: &[(&str, Invariant)] = &[
    ("a run is repeated for a reason, and not too early", a_run_is_repeated_for_a_reason_and_not_too_early),
    ("answers come from runs of their key", answers_come_from_runs_of_their_key),
    ("all stored answers of a key are one", all_stored_answers_of_a_key_are_one),
    ("no key is stuck", no_key_is_stuck),
];

/// A step with the store, in which a claim may have been sent before its run started, and what lies between two ticks.
const SLACK: Duration = TIMEOUT.saturating_add(Duration::from_millis(20));

/// What has happened, so that one sees that something has.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) runs: usize,
    /// Runs that follow one that failed, and one that lost its lease.
    pub(crate) given_back: usize,
    pub(crate) lost: usize,
    pub(crate) answers: usize,
    /// Answers that say that they are not stored.
    pub(crate) not_stored: usize,
}

impl Tally {
    fn of(book: &Book) -> Self {
        let repeated: Vec<_> = (0..book.runs.len()).filter_map(|number| book.before(number)).collect();
        let given_back = repeated.iter().filter(|before| before.failed).count();
        let not_stored = book.answers.iter().filter(|answer| !answer.stored).count();
        let (runs, answers, lost) = (book.runs.len(), book.answers.len(), repeated.len() - given_back);
        Self { runs, given_back, lost, answers, not_stored }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.given_back += other.given_back;
        self.lost += other.lost;
        self.answers += other.answers;
        self.not_stored += other.not_stored;
    }
}

impl Book {
    /// The run of the same key that a run follows.
    fn before(&self, number: usize) -> Option<&Entry> {
        self.runs[..number].iter().rev().find(|before| before.key == self.runs[number].key)
    }
}

/// What has happened, or the first invariant that is broken.
pub(crate) fn check(aftermath: &Aftermath) -> Result<Tally, String> {
    let book = aftermath.ledger.lock();
    for (name, invariant) in INVARIANTS {
        invariant(aftermath, &book).map_err(|what| format!("{name}: {what}"))?;
    }
    Ok(Tally::of(&book))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A run follows another of its key if that one failed, and has ended; or if something ended its service or kept it from
/// the store, so that its lease could end, which takes a lease from its start, and two thirds of one from the fault.
fn a_run_is_repeated_for_a_reason_and_not_too_early(aftermath: &Aftermath, book: &Book) -> Verdict {
    book.runs.iter().enumerate().try_for_each(|(number, run)| {
        let Some(before) = book.before(number) else { return Ok(()) };
        let given_back = before.failed && before.end.is_some_and(|end| end <= run.start);
        let holds = given_back || is_lost(&aftermath.plan, before, run.start + SLACK);
        ensure(holds, || format!("run {number} {run:?} repeats {before:?}"))
    })
}

/// Whether the lease of `run` can have ended by `at`.
fn is_lost(plan: &Plan, run: &Entry, at: Duration) -> bool {
    let expired = |from: Duration| at >= (run.start + LEASE).max(from + 2 * LEASE / 3);
    plan.disturbances(run.service).any(|(from, to)| to + SLACK >= run.start && expired(from))
}

fn answers_come_from_runs_of_their_key(_: &Aftermath, book: &Book) -> Verdict {
    let wrong = book.answers.iter().find(|answer| book.runs[answer.run].key != key(answer.key));
    ensure(wrong.is_none(), || format!("{wrong:?}"))
}

/// Whoever is told an answer without a mark is told that of the one recorded run.
fn all_stored_answers_of_a_key_are_one(_: &Aftermath, book: &Book) -> Verdict {
    let stored = || book.answers.iter().filter(|answer| answer.stored);
    stored().try_for_each(|answer| {
        let other = stored().find(|other| other.key == answer.key && other.run != answer.run);
        ensure(other.is_none(), || format!("{answer:?} and {other:?}"))
    })
}

fn no_key_is_stuck(aftermath: &Aftermath, _: &Book) -> Verdict {
    ensure(aftermath.stuck == 0, || format!("{} keys are in progress", aftermath.stuck))
}
