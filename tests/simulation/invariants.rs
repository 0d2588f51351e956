//! What holds in every history. Each invariant returns what contradicts it.

use std::{collections::HashMap, time::Duration};

use http::StatusCode;
use tower_idempotency::{Rejection, Run};

use crate::{
    handler::{self, Entry, Ledger, Moment, lock},
    history::{Client, KEYS, Request},
    script::{End, Leaves, Response},
    world::{Aftermath, Answer, BodyEnd, Seen, What},
};

type Verdict = Result<(), String>;
type Invariant = fn(&Aftermath, &Ledger) -> Verdict;

/// All of them, by their names.
const INVARIANTS: &[(&str, Invariant)] = &[
    ("at most once is at most one start", at_most_once_is_at_most_one_start),
    ("runs of a key do not overlap", runs_of_a_key_do_not_overlap),
    ("an effect is committed once", an_effect_is_committed_once),
    ("what is committed is not run again", what_is_committed_is_not_run_again),
    ("what is committed is told from then on", what_is_committed_is_told_from_then_on),
    ("only a failed or lost run is repeated", only_a_failed_or_lost_run_is_repeated),
    ("only an outage lets a request run without a claim", only_an_outage_lets_a_request_run_without_a_claim),
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
        self.history.is_calm()
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

    /// Whether the record that `run` may have left can be over at `at`. It is stored with the effect, or
    /// when the run ends, or later.
    fn can_be_forgotten(&self, run: &Entry, at: Moment) -> bool {
        run.effect.or(run.end).is_some_and(|end| end.time + self.history.retention <= at.time)
    }

    /// Whether `request` may have been answered by a copy of a record that is over, which its node still keeps.
    fn is_outdated(&self, ledger: &Ledger, request: usize, at: Moment, answer: &Answer) -> bool {
        let Request { key, node, body, .. } = self.history.requests[request];
        let over = |run: &&Entry| run.key == key && self.can_be_forgotten(run, at);
        let any = |such: &dyn Fn(&Entry) -> bool| ledger.runs.iter().filter(over).any(such);
        self.history.nodes[node].caches
            && match answer.rejection {
                None => answer.replayed && answer.run.is_some_and(|run| over(&&ledger.runs[run])),
                Some(Rejection::Mismatch) => any(&|run| run.body != body),
                Some(Rejection::NotKept) => any(&|run| run.leaves == Leaves::Tombstone),
                Some(Rejection::OutcomeUnknown) => any(&|run| run.leaves == Leaves::OutcomeUnknown),
                Some(_) => false,
            }
    }

    /// Whether a stall has cost `run` its lease before `at`, of which its node cannot have known.
    fn stalled(&self, run: &Entry, at: Moment) -> bool {
        let node = self.history.requests[run.request].node;
        self.history.stall.is_some_and(|stall| stall.costs_a_lease(&self.history, node, run.start.time, at.time))
    }

    /// The answers whose end says that their run is on record, with that run.
    fn told_as_stored<'a>(&'a self, ledger: &'a Ledger) -> impl Iterator<Item = (Moment, usize)> + 'a {
        self.answers().filter_map(move |(_, at, answer)| {
            let number = answer.run?;
            let run = &ledger.runs[number];
            let told = match run.leaves {
                _ if answer.replayed => true,
                _ if answer.end != BodyEnd::Whole || answer.marked_not_stored || run.gives_up => false,
                Leaves::Record => true,
                // The head of a stream is out, without a mark, before it turns out to be too long.
                Leaves::Tombstone => {
                    let script = &self.history.requests[run.request].script;
                    self.calm() || script.keeps_no_body() || self.response(run)?.sized
                }
                Leaves::Nothing | Leaves::OutcomeUnknown => false,
            };
            told.then_some((at, number))
        })
    }
}

impl Entry {
    /// Whether its key was as good as new at `at`. A transaction that has not been given up by everybody can still be
    /// committed after that, if nobody has claimed the key.
    fn has_left_nothing(&self, at: Moment) -> bool {
        self.leaves == Leaves::Nothing || self.effect.is_some_and(|effect| effect > at)
    }
}

/// Two runs of a key overlap only if faults cost the first its lease, and then it has been told before the second
/// starts, unless it stood still.
fn runs_of_a_key_do_not_overlap(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    ledger.runs.iter().enumerate().try_for_each(|(number, run)| {
        run.beside.iter().try_for_each(|&(other, lost)| {
            let before = &ledger.runs[other];
            // A record that is committed before its handler ends can be over before that.
            let over = aftermath.stalled(before, run.start) || aftermath.can_be_forgotten(before, run.start);
            ensure(over || lost && !aftermath.calm(), || {
                format!("run {number} starts beside run {other}, lease lost: {lost}")
            })
        })
    })
}

/// Only a run that leaves nothing is followed by another, or one whose record is over, or that faults cost its lease:
/// until its end is answered, a lease is renewed and the end sent again.
fn only_a_failed_or_lost_run_is_repeated(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let mut last: HashMap<usize, usize> = HashMap::new();
    ledger.runs.iter().enumerate().try_for_each(|(number, run)| {
        let Some(first) = run.handle.as_ref().and_then(|_| last.insert(run.key, number)) else { return Ok(()) };
        let before = &ledger.runs[first];
        let lost = before.handle.as_ref().is_some_and(Run::lease_lost) && !aftermath.calm();
        // It records its end all the same if the other has given the key back by then, and so never hears of it.
        let lost = lost || aftermath.stalled(before, run.start);
        let holds = before.has_left_nothing(run.start) || lost || aftermath.can_be_forgotten(before, run.start);
        ensure(holds, || format!("run {number} repeats run {first}: {before:?}"))
    })
}

/// Nothing runs without a claim, unless the backend could not be asked, and that was wanted.
fn only_an_outage_lets_a_request_run_without_a_claim(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let unclaimed = ledger.runs.iter().position(|run| run.handle.is_none());
    let wanted = aftermath.history.runs_unprotected && !aftermath.calm();
    ensure(unclaimed.is_none() || wanted, || format!("run {unclaimed:?}"))
}

/// At most once, no key starts twice, whatever fails, unless its handler gave it back.
fn at_most_once_is_at_most_one_start(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let mut started: HashMap<usize, Vec<&Entry>> = HashMap::new();
    let mut runs = ledger.runs.iter().enumerate().filter(|_| aftermath.history.at_most_once);
    runs.try_for_each(|(number, run)| {
        let before = started.entry(run.key).or_default();
        let kept = before.iter().find(|before| !before.has_left_nothing(run.start));
        ensure(kept.is_none(), || format!("run {number} starts after {kept:?}"))?;
        before.push(run);
        Ok(())
    })
}

/// Whoever does not hang up is answered: after the wait, the run, and a few steps with the backend at most.
fn every_client_that_stays_is_answered_in_time(aftermath: &Aftermath, _: &Ledger) -> Verdict {
    aftermath.seen[..aftermath.drawn].iter().zip(&aftermath.history.requests).enumerate().try_for_each(
        |(number, (seen, request))| {
            let wait = aftermath.history.wait(request.node).unwrap_or_default();
            let stall = aftermath.history.stall.map_or(Duration::ZERO, |stall| stall.length);
            let latest = request.at + wait + request.script.length() + stall + Duration::from_secs(20);
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
    let unknown = Response::small(StatusCode::SERVICE_UNAVAILABLE);
    aftermath.answers().try_for_each(|(number, _, answer)| {
        let Some(run) = answer.run else { return Ok(()) };
        let said = match aftermath.response(&ledger.runs[run]) {
            Some(_) if ledger.runs[run].gives_up && !answer.replayed => &unknown,
            Some(said) => said,
            None => return Err(format!("run {run} says nothing")),
        };
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

/// No key has two records at a time: all replays, and all answers told as stored, are of one run, unless the record of
/// one was over when the other was told.
fn all_stored_answers_of_a_key_are_one(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let mut first_told: HashMap<usize, Moment> = HashMap::new();
    for (at, run) in aftermath.told_as_stored(ledger) {
        let told = first_told.entry(run).or_insert(at);
        *told = at.min(*told);
    }
    let over = |run: usize, at: Moment| aftermath.can_be_forgotten(&ledger.runs[run], at);
    first_told.iter().try_for_each(|(&run, &told)| {
        first_told.iter().filter(|(other, _)| **other > run).try_for_each(|(&other, &other_told)| {
            let others_key = ledger.runs[run].key != ledger.runs[other].key;
            let holds = others_key || over(run, other_told) || over(other, told);
            ensure(holds, || format!("runs {run} and {other}"))
        })
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
        // By a claim that may not have led to a run, but not without a request.
        let others = || aftermath.history.requests.iter().filter(|other| other.at <= at.time + on_its_way);
        // A panic whose client has left keeps the key until its lease is over.
        let live = |run: &Entry| run.end.is_none_or(|end| end.time + aftermath.history.lease >= request.at);
        let holds = match answer.rejection {
            Some(Rejection::InProgress) => !aftermath.calm() || runs().any(live),
            Some(Rejection::Mismatch) => {
                others().any(|other| (other.key, other.body) == (request.key, 1 - request.body))
            }
            Some(Rejection::NotKept) => same(Leaves::Tombstone),
            Some(Rejection::OutcomeUnknown) => same(Leaves::OutcomeUnknown),
            Some(Rejection::BackendUnavailable) => !aftermath.calm() && !aftermath.history.runs_unprotected,
            _ => false,
        };
        ensure(holds, || format!("request {number}: {answer:?}"))
    })
}

/// Once a client has been told that a response is stored, its key does not run again within the retention, and a later
/// duplicate gets it, or hears that it was not kept; another body is a mismatch.
fn what_was_told_as_stored_is_final(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    // At most once, the last questions leave records too.
    let drawn = |&(_, run): &(Moment, usize)| ledger.runs[run].request < aftermath.drawn;
    aftermath.told_as_stored(ledger).filter(drawn).try_for_each(|(told, number)| {
        let run = &ledger.runs[number];
        let again =
            |later: &Entry| later.key == run.key && later.start > told && !aftermath.can_be_forgotten(run, later.start);
        let later = ledger.runs.iter().position(|later| later.handle.is_some() && again(later));
        ensure(later.is_none(), || format!("run {later:?} starts after run {number} was told as stored"))?;
        let last = aftermath.drawn + 2 * run.key;
        (last..last + 2).filter(|last| !aftermath.can_be_forgotten(run, aftermath.seen[*last].at)).try_for_each(
            |last| {
                let What::Answer(answer) = &aftermath.seen[last].what else { return Err(format!("request {last}")) };
                let holds = match answer.rejection {
                    _ if aftermath.is_outdated(ledger, last, aftermath.seen[last].at, answer) => true,
                    _ if aftermath.history.requests[last].body != run.body => {
                        answer.rejection == Some(Rejection::Mismatch)
                    }
                    Some(rejection) => rejection == Rejection::NotKept && run.leaves == Leaves::Tombstone,
                    None => answer.replayed && answer.run == Some(number),
                };
                ensure(holds, || format!("run {number} was told as stored, but request {last} gets {answer:?}"))
            },
        )
    })
}

fn effects(ledger: &Ledger, key: usize) -> impl Iterator<Item = Moment> {
    ledger.runs.iter().filter(move |run| run.key == key).filter_map(|run| run.effect)
}

/// What is committed together with the record is done once in each retention, whatever fails.
fn an_effect_is_committed_once(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    (0..KEYS).try_for_each(|key| {
        let mut effects: Vec<_> = effects(ledger, key).collect();
        effects.sort_unstable();
        let twice = effects.windows(2).find(|pair| pair[1].time < pair[0].time + aftermath.history.retention);
        ensure(twice.is_none(), || format!("key {key}: {twice:?}"))
    })
}

/// From the moment of a commit on, no run of its key starts until the record is over, whatever fails.
fn what_is_committed_is_not_run_again(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    ledger.runs.iter().filter(|run| run.handle.is_some()).try_for_each(|run| {
        let kept = |effect: &Moment| *effect < run.start && run.start.time < effect.time + aftermath.history.retention;
        let before = effects(ledger, run.key).find(kept);
        ensure(before.is_none(), || format!("{run:?} starts after {before:?}"))
    })
}

/// In the end the answer is that of the run that committed, also where it could not tell its client.
fn what_is_committed_is_told_from_then_on(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    ledger.runs.iter().enumerate().filter(|(_, run)| run.effect.is_some()).try_for_each(|(number, run)| {
        let last = aftermath.drawn + 2 * run.key + run.body;
        let Seen { at, what } = &aftermath.seen[last];
        let What::Answer(answer) = what else { return Err(format!("request {last}: {what:?}")) };
        let told = answer.replayed && answer.run == Some(number) || aftermath.is_outdated(ledger, last, *at, answer);
        ensure(told || aftermath.can_be_forgotten(run, *at), || format!("request {last}: {what:?} after {run:?}"))
    })
}

/// When all leases are over, no run is live, no process busy with a key, and no key in progress. At most once, a claim
/// and its extension that both arrive after the release behind them keep their key: it refuses, which is what was asked
/// for.
fn nothing_is_left_behind(aftermath: &Aftermath, ledger: &Ledger) -> Verdict {
    let open = ledger.runs.iter().filter(|run| run.end.is_none()).count();
    let (live, busy, keys) = (aftermath.live_runs, aftermath.busy_keys, &aftermath.keys_in_progress);
    let free = keys.is_empty() || aftermath.history.at_most_once && !aftermath.calm();
    let none = open + live + busy == 0;
    ensure(none && free, || format!("{open} open, {live} live, {busy} busy, in progress: {keys:?}"))
}
