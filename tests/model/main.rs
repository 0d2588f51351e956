//! The protocol as an explicit state machine, explored exhaustively. See `docs/decisions/0003-protocol-model.md`.

#![allow(clippy::print_stdout, reason = "the figures are the point")]

mod action;
mod call;
mod explore;
mod invariants;
mod machine;
mod mutants;
mod protocol;
mod reach;
mod request;
mod rules;
mod scenario;
mod sharing;
mod store;
#[cfg(feature = "test-util")]
mod walk;

use std::thread::available_parallelism;

use crate::{
    explore::explore,
    invariants::INVARIANTS,
    rules::Rules,
    scenario::{EVERY_FAULT, FOUR, ONE_DIFFERS, Scenario, THREE, THREE_MEET, TWO},
};

/// `MODEL_MORE_FAULTS=1` lets one fault more happen, by which a scenario grows about eight-fold. A build without
/// optimisation is thirty times slower, and lets one less happen.
fn faults(usual: u8) -> u8 {
    let more: u8 = std::env::var("MODEL_MORE_FAULTS").map_or(0, |more| more.parse().expect("a number of faults"));
    usual + more - u8::from(cfg!(debug_assertions))
}

fn threads() -> usize {
    available_parallelism().map_or(2, usize::from)
}

fn holds(scenario: Scenario) {
    let scenario = Scenario { faults: faults(scenario.faults), ..scenario };
    let found = explore(&scenario, INVARIANTS, threads());
    println!(
        "{}, {} faults: {} states, {} transitions, depth {}, {:.1?}",
        scenario.name, scenario.faults, found.states, found.transitions, found.depth, found.took
    );
    if let Some(violation) = found.violation {
        panic!("{} is broken by {:#?}", violation.invariant, violation.trace);
    }
}

const ANY: Scenario = Scenario {
    name: "",
    requests: THREE,
    faults: 0,
    kinds: EVERY_FAULT,
    at_most_once: false,
    shared: false,
    rules: Rules::ALL,
};

#[test]
fn two_requests_hold_the_invariants() {
    holds(Scenario { name: "two requests", requests: TWO, faults: 3, ..ANY });
}

#[test]
fn three_requests_hold_the_invariants() {
    holds(Scenario { name: "three requests", requests: THREE, faults: 2, ..ANY });
}

#[test]
fn four_requests_hold_the_invariants() {
    holds(Scenario { name: "four requests", requests: FOUR, faults: 1, ..ANY });
}

#[test]
fn another_request_under_the_same_key_holds_the_invariants() {
    holds(Scenario { name: "one request differs", requests: ONE_DIFFERS, faults: 2, ..ANY });
}

#[test]
fn at_most_once_holds_the_invariants() {
    holds(Scenario { name: "at most once", requests: THREE, faults: 2, at_most_once: true, ..ANY });
}

/// Requests that meet in one process share a claim.
const SHARED: Scenario = Scenario { shared: true, ..ANY };

#[test]
fn shared_claims_hold_the_invariants() {
    holds(Scenario { name: "shared claims", requests: THREE, faults: 2, ..SHARED });
    holds(Scenario { name: "shared claims on two nodes", requests: FOUR, faults: 1, ..SHARED });
    holds(Scenario { name: "claims shared by three", requests: THREE_MEET, faults: 1, ..SHARED });
}

#[test]
fn shared_claims_of_different_requests_hold_the_invariants() {
    holds(Scenario { name: "shared claims, one request differs", requests: ONE_DIFFERS, faults: 2, ..SHARED });
}

#[test]
fn shared_claims_at_most_once_hold_the_invariants() {
    holds(Scenario { name: "shared claims, at most once", requests: THREE, faults: 2, at_most_once: true, ..SHARED });
}
