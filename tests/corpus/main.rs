//! The fuzz targets, as a test: each over its corpus in `fuzz/corpus/`, and over what random changes make of that.
//!
//! | variable | what it sets |
//! |---|---|
//! | `CORPUS_ROUNDS` | how many changed inputs each target gets |
//! | `CORPUS_SEED` | the seed of the first of them; with `CORPUS_ROUNDS=1` it plays a failure again |
#![cfg(all(feature = "json", feature = "memory", feature = "redis"))]

mod mutate;
mod targets;

use std::{
    cell::Cell,
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Once,
};

use rand::{SeedableRng, rngs::StdRng};

thread_local! {
    /// Panics in tasks that nobody waits for count as well. They are on the thread of their test.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            print(info);
        }));
    });
}

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// The committed inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[track_caller]
fn passes(target: &str, input: &[u8], which: &str) {
    let passed = panic::catch_unwind(AssertUnwindSafe(|| targets::run(target, input)));
    let silent = PANICS.get() == 0;
    assert!(passed.is_ok() && silent, "the target {target} fails over {which}: \"{}\"", input.escape_ascii());
}

/// `rounds` changed inputs, which take 20 to 30 seconds in an optimised build, and in another one a hundredth of them.
fn check(target: &str, rounds: u64) {
    count_panics();
    let corpus = corpus(target);
    assert!(corpus.len() >= 20, "a corpus of {} files reaches little", corpus.len());
    for (number, input) in corpus.iter().enumerate() {
        passes(target, input, &format!("file {number} of its corpus"));
    }
    let first = number_from("CORPUS_SEED").unwrap_or_else(rand::random);
    let rounds = number_from("CORPUS_ROUNDS").unwrap_or(if cfg!(debug_assertions) { rounds / 100 } else { rounds });
    println!("{target}: {} files and {rounds} changed inputs from CORPUS_SEED={first}", corpus.len());
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        let input = mutate::changed(&corpus, &mut StdRng::seed_from_u64(seed));
        passes(target, &input, &format!("CORPUS_SEED={seed}"));
    }
}

#[test]
fn records_come_back() {
    check("record", 15_000_000);
}

#[test]
fn redis_values_are_read_as_described() {
    check("redis_value", 6_000_000);
}

#[test]
fn keys_are_what_clients_mean() {
    check("key", 12_000_000);
}

#[test]
fn fingerprints_tell_requests_apart() {
    check("fingerprint", 8_000_000);
}

#[test]
fn equal_documents_are_equal_and_others_are_not() {
    check("canonical_json", 1_500_000);
}

#[test]
fn the_layer_keeps_its_promises() {
    check("layer", 500_000);
}
