//! What the layer costs in front of an axum router. Compare within one run, against `bare`.
//!
//! ```console
//! cargo bench --bench layer
//! ```
//!
//! Criterion measures each case by the processor time of its thread: by what the layer makes of a request, with and
//! without a fingerprint, with bodies of 100 bytes to 1 MB. Then, by turns in one table, what is left of the throughput of
//! a bare router with 64 tasks on 4 workers, for which the machine has to have four cores to itself; and what a replay
//! costs that a `CachedBackend` has in memory, beside one from `MemoryBackend`. A word after `--` chooses, such as
//! `-- replay`, or `-- throughput`.

mod bodies;
mod cached;
#[path = "../support/cases.rs"]
mod cases;
#[path = "../support/clock.rs"]
mod clock;
#[path = "../../tests/support/distant.rs"]
mod distant;
mod throughput;

use std::{env, time::Duration};

use criterion::{Criterion, criterion_group};

use self::clock::ThreadTime;

criterion_group! {
    name = layer;
    config = Criterion::default()
        .with_measurement(ThreadTime)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    targets = bodies::requests, bodies::responses
}

fn main() {
    let chosen = |name| env::args().skip(1).all(|argument| argument.starts_with('-') || argument == name);
    layer();
    if chosen("throughput") {
        throughput::print();
    }
    if chosen("cached") {
        cached::print();
    }
    Criterion::default().configure_from_args().final_summary();
}
