//! The whole layer in random orders: what is ready goes on in any order, command by command, reply by reply, frame by
//! frame, while clients leave and the clock moves. No lease ends, so that nothing excuses a second run.
//!
//! `SCHEDULES_SEED=7` plays one schedule again. `SCHEDULES=10000000` plays more of them.
#![cfg(all(feature = "memory", feature = "test-util"))]
#![allow(clippy::print_stdout, reason = "the seeds are the point")]

mod gates;
mod handler;
mod invariants;
mod schedule;
#[path = "../support/way.rs"]
mod way;

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use tokio::runtime::{Builder, Runtime};

use crate::{invariants::check, schedule::play};

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// The pauses after an error are drawn by the crate itself: a seed is played until it fails, up to this often.
const REPEATS: usize = 200;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

#[test]
fn every_schedule_holds_the_invariants() {
    if let Some(seed) = number_from("SCHEDULES_SEED") {
        let broken = (0..REPEATS).find_map(|_| runtime().block_on(simulate(seed)).err());
        return assert_eq!(broken, None, "SCHEDULES_SEED={seed}");
    }
    let schedules = number_from("SCHEDULES").unwrap_or(if cfg!(debug_assertions) { 2_000 } else { 100_000 });
    let (first, next, stop) = (rand::random::<u32>().into(), AtomicU64::new(0), AtomicBool::new(false));
    println!("{schedules} schedules from seed {first}");
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| work(first, schedules, &next, &stop));
        }
    });
}

/// Plays schedules until they are all played, or one is broken.
fn work(first: u64, schedules: u64, next: &AtomicU64, stop: &AtomicBool) {
    let runtime = runtime();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= schedules {
            return;
        }
        let seed = first + number;
        if let Err(broken) = runtime.block_on(simulate(seed)) {
            stop.store(true, Ordering::Relaxed);
            panic!("SCHEDULES_SEED={seed} breaks: {broken}");
        }
    }
}

async fn simulate(seed: u64) -> Result<(), String> {
    check(&play(seed).await)
}
