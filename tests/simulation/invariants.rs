//! What holds in every history. Each invariant returns what contradicts it.

use std::{collections::HashMap, time::Duration};

use tower_idempotency::Rejection;

use crate::{
    handler::{self, Entry, Ledger, Moment, lock},
    history::{Client, End, Leaves, Response},
    world::{Aftermath, Answer, BodyEnd, What},
};

type Verdict = Result<(), String>;
type Invariant = fn(&Aftermath, &Ledger) -> Verdict;

/// All of them, by their names.
const INVARIANTS: &[(&str, Invariant)] = &[
    ("runs of a key do not overlap", runs_of_a_key_do_not_overlap),
    ("only a failed or lost run is repeated", only_a_failed_or_lost_run_is_repeated),
    ("at most once is at most one start", at_most_once_is_at_most_one_start),
    ("every client that stays is answered in time", every_client_that_stays_is_answered_in_time),
    ("answers come from a run of the same request", answers_come_from_a_run_of_the_same_request),
    ("answers equal what their run said", answers_equal_what_their_run_said),
    ("all stored answers of a key are one", all_stored_answers_of_a_key_are_one),
    ("refusals have their reason", refusals_have_their_reason),
    ("what was told as stored is final", what_was_told_as_stored_is_final),
    ("nothing is left behind", nothing_is_left_behind),
];

/// The first invariant that `aftermath` breaks.
pub(crate) fn check(aftermath: &Aftermath) -> Verdict {
    let ledger = lock(&aftermath.ledger);
    for (name, invariant) in INVARIANTS {
        invariant(aftermath, &ledger).map_err(|what| format!("{name}: {what}"))?;
    }
    Ok(())
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Aftermath {
    fn calm(&self) -> bool {
        self.history.weather.is_none()
    }

    fn answers(&self) -> impl Iterator<Item = (usize, Moment, &Answer)> {
        self.seen.iter().enumerate().filter_map(|(request, seen)| match &seen.what {
            What::Answer(answer) => Some((request, seen.at, answer)),
            _ => None,
        })
    }

    fn response(&self, run: &Entry) -> Option<&Response> {
        match &self.history.requests[run.request].script.ends {
            End::Response(response) => Some(response),
            _ => None,
        }
    }

    /// The answers whose end says that their run is on record, with that run.
    fn told_as_stored<'a>(&'a self, ledger: &'a Ledger) -> impl Iterator<Item = (Moment, usize)> + 'a {
        self.answers().filter_map(move |(_, at, answer)| {
            let number = answer.run?;
            let told = match ledger.runs[number].leaves {
                _ if answer.replayed => true,
                _ if answer.end != BodyEnd::Whole || answer.marked_not_stored => false,
                Leaves::Record => true,
                // The head of a stream is out, without a mark, before it turns out to be too long.
                Leaves::Tombstone => self.calm() || self.response(&ledger.runs[number])?.sized,
                Leaves::Nothing | Leaves::OutcomeUnknown => false,
            };
            told.then_some((at, number))
        })
    }
}

/// Two runs of a key overlap only if faults cost the first its lease, and then it has been told before the second starts.
fn runs_of_a_key_do_not_overlap(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    ledger.runs.iter().enumerate().try_for_each(|(number, run)| {
        run.beside.iter().try_for_each(|&(other, lost)| {
            ensure(lost && !aftermath.calm(), || format!("run {number} starts beside run {other}, lease lost: {lost}"))
        })
    })
}

/// Only a run that leaves nothing is followed by another, or one that faults cost its lease: until its end is answered,
/// a lease is renewed and the end sent again.
fn only_a_failed_or_lost_run_is_repeated(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let mut last: HashMap<usize, usize> = HashMap::new();
    ledger.runs.iter().enumerate().try_for_each(|(number, run)| {
        let Some(before) = last.insert(run.key, number) else { return Ok(()) };
        let Entry { leaves, handle, .. } = &ledger.runs[before];
        let holds = *leaves == Leaves::Nothing || handle.lease_lost() && !aftermath.calm();
        ensure(holds, || format!("run {number} repeats run {before}, which leaves {leaves:?}: {handle:?}"))
    })
}

/// At most once, no key starts twice, whatever fails.
fn at_most_once_is_at_most_one_start(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let starts = |key| ledger.runs.iter().filter(|run| run.key == key).count();
    let repeated = (0..3).find(|&key| starts(key) > 1 && aftermath.history.at_most_once);
    ensure(repeated.is_none(), || format!("key {repeated:?}"))
}

/// Whoever does not hang up is answered: after the wait, the run, and a few steps with the backend at most.
fn every_client_that_stays_is_answered_in_time(aftermath: &Aftermath, _: &Ledger) -> Verdict {
    aftermath.seen[..aftermath.drawn].iter().zip(&aftermath.history.requests).enumerate().try_for_each(
        |(number, (seen, request))| {
            let wait = aftermath.history.wait[request.node].unwrap_or_default();
            let latest = request.at + wait + request.script.length() + Duration::from_secs(20);
            let in_time = seen.at.time <= latest && !matches!(seen.what, What::Nothing);
            let stays = request.client == Client::Stays;
            ensure(in_time || !stays, || format!("request {number}: {:?} instead of by {latest:?}", seen.at.time))
        },
    )
}

/// What a client is shown of a run is of the same key and body: of its own run if it is unmarked, of any if replayed.
fn answers_come_from_a_run_of_the_same_request(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    aftermath.seen.iter().enumerate().try_for_each(|(number, seen)| {
        let request = &aftermath.history.requests[number];
        let own =
            |end: fn(&End) -> bool| ledger.runs.iter().any(|run| run.request == number) && end(&request.script.ends);
        let holds = match &seen.what {
            What::Answer(Answer { run: Some(run), replayed, .. }) => {
                let run = &ledger.runs[*run];
                (run.key, run.body) == (request.key, request.body) && (*replayed || run.request == number)
            }
            What::Answer(Answer { rejection, .. }) => rejection.is_some(),
            What::ServiceError => own(|end| matches!(end, End::Error)),
            What::Panic => own(|end| matches!(end, End::Panic)),
            What::Left | What::Nothing => true,
        };
        ensure(holds, || format!("request {number}: {seen:?}"))
    })
}

/// Status, body and trailers are those of the run, byte for byte. A body breaks only if its run's does, or if faults cost
/// the lease; a replay never does.
fn answers_equal_what_their_run_said(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    aftermath.answers().try_for_each(|(number, _, answer)| {
        let Some(run) = answer.run else { return Ok(()) };
        let Some(said) = aftermath.response(&ledger.runs[run]) else { return Err(format!("run {run} says nothing")) };
        let text = handler::text(run, said);
        let trailers = (said.trailers && !said.breaks).then(|| handler::trailers(run));
        let mut shown = answer.trailers.clone().unwrap_or_default();
        shown.remove("idempotency-stored");
        let whole = answer.body == text && shown == trailers.unwrap_or_default() && !said.breaks;
        let holds = match answer.end {
            BodyEnd::Whole => whole,
            BodyEnd::Left => text.starts_with(&answer.body),
            BodyEnd::Broken => {
                text.starts_with(&answer.body) && !answer.replayed && (said.breaks || !aftermath.calm() && !said.sized)
            }
        };
        ensure(holds && answer.status == said.status, || format!("request {number}: {answer:?} is not of {said:?}"))
    })
}

/// No key has two records: all replays, and all answers told as stored, are of one run.
fn all_stored_answers_of_a_key_are_one(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let mut stored = HashMap::new();
    aftermath.told_as_stored(ledger).try_for_each(|(_, run)| {
        let first = *stored.entry(ledger.runs[run].key).or_insert(run);
        ensure(first == run, || format!("runs {first} and {run}"))
    })
}

/// Nobody is refused without a reason: a mismatch needs another body under the key, and so on.
fn refusals_have_their_reason(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let on_its_way = 4 * aftermath.history.round_trip.unwrap_or_default();
    aftermath.answers().filter(|(.., answer)| answer.run.is_none()).try_for_each(|(number, at, answer)| {
        let request = &aftermath.history.requests[number];
        // A claim refuses others before its own node has heard of it.
        let claimed = |run: &Entry| run.start < at || run.start.time < at.time + on_its_way;
        let runs = || ledger.runs.iter().filter(|run| run.key == request.key && claimed(run));
        let same = |leaves| runs().any(|run| run.body == request.body && run.leaves == leaves);
        // A panic whose client has left keeps the key until its lease is over.
        let live = |run: &Entry| run.end.is_none_or(|end| end.time + aftermath.history.lease >= request.at);
        let holds = match answer.rejection {
            Some(Rejection::InProgress) => !aftermath.calm() || runs().any(live),
            Some(Rejection::Mismatch) => !aftermath.calm() || runs().any(|run| run.body != request.body),
            Some(Rejection::NotKept) => same(Leaves::Tombstone),
            Some(Rejection::OutcomeUnknown) => same(Leaves::OutcomeUnknown),
            Some(Rejection::BackendUnavailable) => !aftermath.calm(),
            _ => false,
        };
        ensure(holds, || format!("request {number}: {answer:?}"))
    })
}

/// Once a client has been told that a response is stored, its key never runs again, and a later duplicate gets it, or
/// hears that it was not kept; another body is a mismatch.
fn what_was_told_as_stored_is_final(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    // At most once, the last questions leave records too.
    let drawn = |&(_, run): &(Moment, usize)| ledger.runs[run].request < aftermath.drawn;
    aftermath.told_as_stored(ledger).filter(drawn).try_for_each(|(told, number)| {
        let run = &ledger.runs[number];
        let later = ledger.runs.iter().position(|later| later.key == run.key && later.start > told);
        ensure(later.is_none(), || format!("run {later:?} starts after run {number} was told as stored"))?;
        (0..2).try_for_each(|body| {
            let last = &aftermath.seen[aftermath.drawn + 2 * run.key + body];
            let What::Answer(answer) = &last.what else { return Err(format!("{last:?}")) };
            let holds = match answer.rejection {
                _ if body != run.body => answer.rejection == Some(Rejection::Mismatch),
                Some(rejection) => rejection == Rejection::NotKept && run.leaves == Leaves::Tombstone,
                None => answer.replayed && answer.run == Some(number),
            };
            ensure(holds, || format!("run {number} was told as stored, but body {body} gets {answer:?}"))
        })
    })
}

/// When all leases are over, no run is live, no process busy with a key, and no key in progress. At most once, a claim and its extension that both
/// arrive after the release behind them keep their key: it refuses, which is what was asked for.
fn nothing_is_left_behind(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let open = ledger.runs.iter().filter(|run| run.end.is_none()).count();
    let (live, busy, keys) = (aftermath.live_runs, aftermath.busy_keys, &aftermath.keys_in_progress);
    let free = keys.is_empty() || aftermath.history.at_most_once && !aftermath.calm();
    let none = open + live + busy == 0;
    ensure(none && free, || format!("{open} open, {live} live, {busy} busy, in progress: {keys:?}"))
}
