//! New keys and replays, on one thread.

use criterion::{BenchmarkId, Criterion};

use crate::{
    clock::ThreadTime,
    load::{Load, scattered},
};

/// How many records the store holds while it is measured.
const LIVE: [u64; 2] = [10_000, 1_000_000];

/// Replays for each new key in a mix.
const REPLAYS: u64 = 4;

pub(crate) fn all(criterion: &mut Criterion<ThreadTime>) {
    for live in LIVE {
        let load = Load::filled(1, live);
        let mut next = live;
        // What has been replayed takes more memory, so that the order counts.
        measure(criterion, "new", live, || turn_over(&load, live, &mut next));
        measure(criterion, "mix", live, || {
            turn_over(&load, live, &mut next);
            (0..REPLAYS).for_each(|replay| load.replay(0, next - 1 - scattered(next + replay, live)));
        });
        let mut replays = 0;
        measure(criterion, "replay", live, || {
            replays += 1;
            load.replay(0, next - 1 - scattered(replays, live));
        });
    }
}

/// Claims and completes a new key, and removes the oldest one.
fn turn_over(load: &Load, live: u64, next: &mut u64) {
    load.run(0, *next);
    load.remove(0, *next - live);
    *next += 1;
}

fn measure(criterion: &mut Criterion<ThreadTime>, name: &str, live: u64, mut work: impl FnMut()) {
    criterion.benchmark_group("memory").bench_function(BenchmarkId::new(name, live), |bencher| bencher.iter(&mut work));
}
