//! Deterministic simulation: the whole layer on two or three nodes over one backend that fails, with handlers,
//! transactions, bodies, clients and stalls drawn from a seed, on a clock that jumps.
//!
//! `SIMULATION_SEED=7` plays one history and tells its story. `SIMULATION_HISTORIES=1000000` plays more of them.
#![cfg(all(feature = "memory", feature = "test-util"))]
#![allow(clippy::print_stdout, reason = "the seeds and the story are the point")]

#[path = "../support/distant.rs"]
mod distant;
mod handler;
mod history;
mod invariants;
mod node;
mod script;
mod stall;
mod till;
mod world;

use std::{
    cell::RefCell,
    env, panic,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::{
    handler::{Own, lock},
    history::History,
    invariants::check,
    world::{Aftermath, play},
};

thread_local! {
    /// Panics on this thread that are not the handlers' own, while a history is played.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Keeps the handlers' own panics quiet and the others for the history that is played.
fn watch_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let own = info.payload().is::<Own>();
        let noted =
            own || PANICS.with_borrow_mut(|panics| panics.as_mut().map(|it| it.push(info.to_string())).is_some());
        if !noted {
            usual(info);
        }
    }));
}

/// Plays the history of `seed` and returns what came of it, and what is wrong with that.
fn simulate(seed: u64) -> (Aftermath, Result<(), String>) {
    PANICS.set(Some(Vec::new()));
    let aftermath = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(play(History::draw(seed)));
    let panics = PANICS.take().unwrap_or_default();
    let verdict = if panics.is_empty() { check(&aftermath) } else { Err(format!("no panic escapes: {panics:?}")) };
    (aftermath, verdict)
}

fn tell(aftermath: &Aftermath) {
    let history = &aftermath.history;
    println!("{:#?}", History { requests: Vec::new(), ..History::draw(aftermath.history.seed) });
    for (number, (request, seen)) in history.requests.iter().zip(&aftermath.seen).enumerate() {
        println!("request {number}: {request:?}\n    saw {seen:?}");
    }
    for (number, run) in lock(&aftermath.ledger).runs.iter().enumerate() {
        println!("run {number}: {run:?}");
    }
}

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// The pauses between two sendings of a command are jittered with randomness that no seed reaches, so a history with
/// faults may go another way now and then: a seed is played until it fails, up to this often.
const REPEATS: usize = 200;

#[test]
fn every_history_holds_the_invariants() {
    watch_panics();
    if let Some(seed) = number_from("SIMULATION_SEED") {
        let mut played = (0..REPEATS).map(|_| simulate(seed));
        let first = played.next().expect("one at least");
        let (aftermath, verdict) =
            if first.1.is_err() { first } else { played.find(|(_, verdict)| verdict.is_err()).unwrap_or(first) };
        tell(&aftermath);
        return verdict.unwrap_or_else(|broken| panic!("{broken}"));
    }
    let histories = number_from("SIMULATION_HISTORIES").unwrap_or(if cfg!(debug_assertions) { 2_000 } else { 100_000 });
    let (first, next, stop) = (rand::random::<u32>().into(), AtomicU64::new(0), AtomicBool::new(false));
    println!("{histories} histories from seed {first}");
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| work(first, histories, &next, &stop));
        }
    });
}

/// Plays histories until they are all played, or one is broken.
fn work(first: u64, histories: u64, next: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= histories {
            return;
        }
        let seed = first + number;
        if let (_, Err(broken)) = simulate(seed) {
            stop.store(true, Ordering::Relaxed);
            panic!("SIMULATION_SEED={seed} breaks: {broken}");
        }
    }
}
