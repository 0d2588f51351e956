//! Worlds: axum with the layer on several hosts, a store on another, clients that insist, and between them a network
//! that turmoil simulates: it is slow, loses messages, holds them back and falls apart, and hosts crash.
//!
//! `WORLDS_SEED=7` plays one world and tells its story. `WORLDS=20000` plays more of them.
#![cfg(feature = "memory")]
#![allow(clippy::print_stdout, reason = "the seeds and the story are the point")]

mod client;
mod invariants;
mod plan;
mod service;
mod store;
mod wire;
mod world;

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    invariants::{Tally, check},
    plan::Plan,
    world::play,
};

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// Tokens and the pauses between two sendings are drawn by the crate itself, so a world may go another way now and then:
/// a seed is played until it fails, up to this often.
const REPEATS: usize = 50;

#[test]
fn every_world_holds_the_invariants() {
    if let Some(seed) = number_from("WORLDS_SEED") {
        let broken = (0..REPEATS).find_map(|_| simulate(seed, true).err());
        return assert_eq!(broken, None, "WORLDS_SEED={seed}");
    }
    let worlds = number_from("WORLDS").unwrap_or(if cfg!(debug_assertions) { 30 } else { 500 });
    let (first, next, stop) = (rand::random::<u32>().into(), AtomicU64::new(0), AtomicBool::new(false));
    println!("{worlds} worlds from seed {first}");
    let sum = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| work(first, worlds, &next, &stop, &sum));
        }
    });
    let sum = sum.into_inner().expect("no thread has panicked");
    println!("{sum:?}");
    // Of 300 worlds each does some harm.
    assert!(worlds < 300 || sum.lost > 0 && sum.not_stored > 0, "nothing was put to the test: {sum:?}");
}

/// Plays worlds until they are all played, or one is broken.
fn work(first: u64, worlds: u64, next: &AtomicU64, stop: &AtomicBool, sum: &Mutex<Tally>) {
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= worlds {
            return;
        }
        let seed = first + number;
        match simulate(seed, false) {
            Ok(tally) => sum.lock().expect("nothing panics under this lock").add(&tally),
            Err(broken) => {
                stop.store(true, Ordering::Relaxed);
                panic!("WORLDS_SEED={seed} breaks: {broken}");
            }
        }
    }
}

/// Plays the world of `seed`, and counts what came of it, or says what is wrong with that.
fn simulate(seed: u64, tell: bool) -> Result<Tally, String> {
    let plan = Plan::draw(seed);
    let aftermath = play(plan);
    if tell {
        println!("{aftermath:#?}");
    }
    check(&aftermath?)
}
