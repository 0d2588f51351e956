//! That the explorer gets everywhere: an invariant says little about states that are never reached.

use crate::{
    ANY,
    action::Action,
    explore::explore,
    invariants::{Invariant, Step},
    request::{Client, Phase},
    scenario::{FOUR, ONE_DIFFERS, Scenario, THREE, TWO},
    threads,
};

macro_rules! never {
    ($($name:ident: $pattern:pat),* $(,)?) => { &[$((stringify!($name), |step| {
        !step.after.requests.iter().any(|request| matches!((request.phase, request.client), $pattern))
    })),*] };
}

/// Each is to be broken.
const NEVER: &[Invariant] = never![
    discarding: (Phase::Discarding, _),
    cleaning: (Phase::Cleaning, _),
    completing_behind: (Phase::CompletingBehind, Client::NotStored),
    releasing_behind: (Phase::ReleasingBehind, Client::Failed),
    reading: (Phase::Reading, _),
    running_without_a_client: (Phase::Running, Client::Left),
    cut_off: (_, Client::CutOff),
    stored: (_, Client::Stored(_)),
    replayed: (_, Client::Replayed(_)),
    conflict: (_, Client::Conflict { own: false }),
    lease_lost: (_, Client::LeaseLost),
];

fn is_reached(scenario: Scenario, never: Invariant) {
    let found = explore(&Scenario { name: never.0, ..scenario }, &[never], threads());
    assert!(found.violation.is_some(), "{} is not reached in {} states", never.0, found.states);
}

#[test]
fn every_phase_and_every_answer_is_reached() {
    NEVER.iter().for_each(|never| is_reached(Scenario { requests: TWO, faults: 2, ..ANY }, *never));
}

#[test]
fn a_mismatch_is_reached() {
    let never: Invariant =
        ("mismatch", |step| step.after.requests.iter().all(|request| request.client != Client::Mismatch));
    is_reached(Scenario { requests: ONE_DIFFERS, ..ANY }, never);
}

#[test]
fn every_round_is_reached_and_the_last_is_refused() {
    let never = |step: &Step<'_>| {
        let requests = step.before.requests.iter().zip(&step.after.requests);
        !requests.into_iter().any(|(before, after)| before.round == 2 && after.client == Client::Unavailable)
    };
    is_reached(Scenario { requests: &TWO[..1], faults: 3, ..ANY }, ("the last round", never));
}

#[test]
fn an_extension_that_came_too_late_leads_to_another_round() {
    let never = |step: &Step<'_>| {
        let requests = step.before.requests.iter().zip(&step.after.requests);
        !requests
            .into_iter()
            .any(|(before, after)| before.phase == Phase::Extending && after.phase == Phase::Discarding)
    };
    is_reached(Scenario { requests: TWO, faults: 2, at_most_once: true, ..ANY }, ("discarding", never));
}

#[test]
fn without_faults_every_client_gets_the_one_answer_or_a_conflict() {
    let only_these: Invariant = ("only these answers", |step| {
        step.after.requests.iter().all(|request| {
            matches!(
                request.client,
                Client::Waiting | Client::Stored(_) | Client::Replayed(_) | Client::Conflict { own: false }
            )
        })
    });
    let scenario = Scenario { requests: FOUR, ..ANY };
    assert!(explore(&scenario, &[only_these], threads()).violation.is_none());
}

#[test]
fn a_follower_asks_for_itself_when_told_nothing_it_can_use_and_when_its_patience_ends() {
    fn asks(step: &Step<'_>) -> bool {
        let mut requests = step.before.requests.iter().zip(&step.after.requests);
        requests.any(|(before, after)| before.phase == Phase::Following && after.phase == Phase::Claiming)
    }
    let shared = Scenario { requests: THREE, faults: 2, shared: true, ..ANY };
    is_reached(shared, ("told", |step| !(asks(step) && matches!(step.action, Action::Reply(..)))));
    let shared = Scenario { at_most_once: true, ..shared };
    is_reached(shared, ("patience", |step| !(asks(step) && step.action == Action::Tick)));
}
