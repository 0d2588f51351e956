//! Random scripts of requests, handlers and clients against the whole layer.
#![cfg(feature = "memory")]

#[path = "script/interpreter.rs"]
mod interpreter;

use std::{
    panic,
    sync::atomic::{AtomicUsize, Ordering},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The script of `seed` is played again with `SCRIPT_SEED=seed`.
#[test]
fn random_scripts_keep_the_promises() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        print(info);
    }));
    let (first, scripts) = match std::env::var("SCRIPT_SEED") {
        Ok(seed) => (seed.parse().expect("SCRIPT_SEED is a number"), 1),
        Err(_) => (rand::rng().next_u64(), 20_000),
    };
    println!("seeds from SCRIPT_SEED={first}");
    for seed in (0..scripts).map(|script| first.wrapping_add(script)) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = vec![0; 1 + random.next_u32() as usize % 400];
        random.fill_bytes(&mut bytes);
        let played = panic::catch_unwind(|| interpreter::run(&bytes));
        assert!(played.is_ok() && PANICS.load(Ordering::SeqCst) == 0, "SCRIPT_SEED={seed} fails");
    }
}
