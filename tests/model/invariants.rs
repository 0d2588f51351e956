//! What must hold in every step, whatever happens.

use crate::{
    action::Action,
    machine::{Node, State},
    request::{Client, Phase},
    scenario::Scenario,
    store::{Command, FOREVER, LEASE, Message, Record, Value},
};

/// A step: what happened, and the states around it.
pub(crate) struct Step<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) before: &'a State,
    pub(crate) action: Action,
    /// The command that the store executed.
    pub(crate) executed: Option<Message>,
    pub(crate) after: &'a State,
}

pub(crate) type Invariant = (&'static str, fn(&Step<'_>) -> bool);

macro_rules! named {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name)),*] };
}

/// In the order in which they are checked.
pub(crate) const INVARIANTS: &[Invariant] = named![
    one_request_holds_the_key,
    a_lost_holder_never_changes_its_successors_value,
    a_record_is_final,
    a_stored_response_is_seen_only_after_its_record_is_stored,
    all_clients_get_one_answer,
    a_stored_response_can_be_replayed,
    no_request_is_refused_by_its_own_claim,
    no_refusal_is_outdated,
    no_other_request_is_answered_or_replayed,
    no_handler_starts_on_a_lease_that_may_be_over,
    one_handler_runs_at_a_time,
    no_execution_is_without_a_cause,
    no_lease_is_lost_without_a_cause,
    a_lost_lease_is_noticed,
    nothing_runs_for_a_refused_client,
    at_most_once_is_at_most_once,
    no_claim_outlives_its_lease,
    only_renewals_move_a_deadline,
    an_expired_claim_refuses_nobody,
    every_claim_has_somebody_who_will_end_it,
    every_client_is_answered,
];

impl Step<'_> {
    fn started(&self, request: usize) -> bool {
        self.before.requests[request].phase != Phase::Running && self.after.requests[request].phase == Phase::Running
    }

    fn runs_freely(&self, request: usize) -> bool {
        self.after.requests[request].phase == Phase::Running
            && self.after.nodes[self.scenario.node(request)] != Node::Stalled
    }

    /// The stored responses that clients have seen.
    fn seen(&self) -> impl Iterator<Item = Record> {
        self.after.requests.iter().filter_map(|request| match request.client {
            Client::Stored(record) | Client::Replayed(record) => Some(record),
            _ => None,
        })
    }
}

/// At most one request takes the key for its own, on whatever node, stalled or not.
fn one_request_holds_the_key(step: &Step<'_>) -> bool {
    step.after.requests.iter().filter(|request| request.is_entitled()).count() <= 1
}

/// Where another token holds the key, or has completed it, a command changes nothing.
fn a_lost_holder_never_changes_its_successors_value(step: &Step<'_>) -> bool {
    let holder = match step.before.store {
        Value::Completed(record) => Some(record.run),
        other => other.claim().map(|(token, _)| token),
    };
    match (step.executed, holder) {
        (Some(message), Some(holder)) if message.token != holder => step.after.store == step.before.store,
        // No command was executed, so nothing but time may have changed the value.
        (None, Some(holder)) => {
            step.after.store.claim().is_none_or(|(token, _)| token == holder)
                && (step.action == Action::Tick || step.after.store == step.before.store)
        }
        _ => true,
    }
}

/// At most one record is ever stored, and it never changes.
fn a_record_is_final(step: &Step<'_>) -> bool {
    !matches!(step.before.store, Value::Completed(_)) || step.after.store == step.before.store
}

/// When a client is told that its response is stored, the record has been stored before.
fn a_stored_response_is_seen_only_after_its_record_is_stored(step: &Step<'_>) -> bool {
    step.scenario.numbers().all(|number| {
        let (before, after) = (step.before.requests[number].client, step.after.requests[number].client);
        match after {
            Client::Stored(record) if before != after => step.before.store == Value::Completed(record),
            _ => true,
        }
    })
}

/// All clients that got a stored response got the same one. (Those told "not stored" got their own.)
fn all_clients_get_one_answer(step: &Step<'_>) -> bool {
    let mut seen = step.seen();
    let first = seen.next();
    seen.all(|record| Some(record) == first)
}

/// What a client was told is stored stays there for the next one.
fn a_stored_response_can_be_replayed(step: &Step<'_>) -> bool {
    step.seen().all(|record| step.after.store == Value::Completed(record))
}

/// A 409 at the claim means that *another* request holds the key.
fn no_request_is_refused_by_its_own_claim(step: &Step<'_>) -> bool {
    step.after.requests.iter().all(|request| request.client != Client::Conflict { own: true })
}

/// Where claims are shared: a 409 or 422 was true at some time while its request was there. Until the end of a run is
/// answered its own process knows no better than 409.
fn no_refusal_is_outdated(step: &Step<'_>) -> bool {
    let ends = |other: usize| matches!(step.before.requests[other].phase, Phase::Completing | Phase::Keeping);
    step.scenario.numbers().filter(|_| step.scenario.shared).all(|number| {
        let (before, after) = (step.before.requests[number], step.after.requests[number]);
        let (conflict, mismatch) = step.after.reasons(number, step.scenario);
        match after.client {
            client if client == before.client => true,
            Client::Conflict { .. } => {
                let mut here = step.scenario.requests_on(step.scenario.node(number));
                before.history.conflict || conflict || here.any(ends)
            }
            Client::Mismatch => before.history.mismatch || mismatch,
            _ => true,
        }
    })
}

/// A record is replayed only to the request that it answers; and a 422 has a reason.
fn no_other_request_is_answered_or_replayed(step: &Step<'_>) -> bool {
    let print = |number: usize| step.scenario.requests[number].fingerprint;
    step.scenario.numbers().all(|number| match step.after.requests[number].client {
        Client::Replayed(record) => print(record.run.request.into()) == print(number),
        Client::Mismatch => step.scenario.numbers().any(|other| print(other) != print(number)),
        _ => true,
    })
}

/// The private deadline has not passed when the handler starts.
fn no_handler_starts_on_a_lease_that_may_be_over(step: &Step<'_>) -> bool {
    step.scenario.numbers().all(|number| !step.started(number) || step.after.requests[number].left > 0)
}

/// Of the handlers that run, at most one has not been told that its lease is lost. (One on a stalled node does not run.)
fn one_handler_runs_at_a_time(step: &Step<'_>) -> bool {
    step.scenario.numbers().filter(|number| step.runs_freely(*number) && !step.after.requests[*number].lost).count()
        <= 1
}

/// A handler starts again only after every earlier run failed, was killed, or lost its lease to faults.
fn no_execution_is_without_a_cause(step: &Step<'_>) -> bool {
    let explained = |other: usize| {
        let history = step.after.requests[other].history;
        !history.ran || history.failed || history.killed || history.may_have_lost_the_lease()
    };
    let start = step.scenario.numbers().find(|number| step.started(*number));
    start.is_none_or(|started| step.scenario.numbers().all(|other| other == started || explained(other)))
}

/// A running handler loses its lease only to a stall, a cut-off, or the loss of two messages in a row.
fn no_lease_is_lost_without_a_cause(step: &Step<'_>) -> bool {
    step.after
        .requests
        .iter()
        .all(|request| request.phase != Phase::Running || !request.lost || request.history.may_have_lost_the_lease())
}

/// A handler that runs past its private deadline has been told.
fn a_lost_lease_is_noticed(step: &Step<'_>) -> bool {
    step.scenario.numbers().all(|number| {
        let request = step.after.requests[number];
        !step.runs_freely(number) || request.left > 0 || request.lost
    })
}

/// A client that was refused was refused before anything ran.
fn nothing_runs_for_a_refused_client(step: &Step<'_>) -> bool {
    step.after.requests.iter().all(|request| {
        let refused = matches!(request.client, Client::Unavailable | Client::Conflict { .. } | Client::Mismatch);
        !(refused && request.history.ran)
    })
}

/// At most once: one execution, whatever happens.
fn at_most_once_is_at_most_once(step: &Step<'_>) -> bool {
    !step.scenario.at_most_once || step.after.requests.iter().filter(|request| request.history.ran).count() <= 1
}

/// From every state a key is free, or completed, a lease after the last renewal. (At most once: the retention.)
fn no_claim_outlives_its_lease(step: &Step<'_>) -> bool {
    match step.after.store {
        Value::InProgress { left: FOREVER, .. } => step.scenario.at_most_once,
        Value::InProgress { left, .. } => left <= LEASE,
        _ => true,
    }
}

/// A claim lives longer only when its holder asks for it.
fn only_renewals_move_a_deadline(step: &Step<'_>) -> bool {
    match (step.before.store.claim(), step.after.store.claim()) {
        (Some((before, had)), Some((after, has))) if before == after && has > had => {
            step.executed.is_some_and(|message| matches!(message.command, Command::Renew | Command::Extend))
        }
        _ => true,
    }
}

/// A claim on an absent key, or on an expired claim, is acquired.
fn an_expired_claim_refuses_nobody(step: &Step<'_>) -> bool {
    let free = !matches!(step.before.store, Value::Completed(_)) && step.before.store.claim().is_none();
    match step.executed {
        Some(Message { command: Command::Claim, token }) if free => step.after.store.claim() == Some((token, LEASE)),
        _ => true,
    }
}

/// A claim that nobody uses does not lock its key: whoever made it is about to renew, complete or release it. Apart
/// from those that a killed process left, that arrived after their sender had given up, or whose run lost its lease.
fn every_claim_has_somebody_who_will_end_it(step: &Step<'_>) -> bool {
    let Value::InProgress { token, left: 1.., stray: false } = step.after.store else { return true };
    let owner = step.after.requests[usize::from(token.request)];
    let history = owner.history;
    let attended = owner.round == token.round && !matches!(owner.phase, Phase::Idle | Phase::Over | Phase::Reading);
    attended || history.killed || (history.ran && history.may_have_lost_the_lease())
}

/// A request does not end before its client has an answer, or is gone.
fn every_client_is_answered(step: &Step<'_>) -> bool {
    step.after.requests.iter().all(|request| request.phase != Phase::Over || request.client != Client::Waiting)
}
