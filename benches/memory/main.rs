//! What the memory backend costs alone, with records of 300 bytes.
//!
//! ```console
//! cargo bench --bench memory
//! ```
//!
//! First how much memory a record takes, and how long a command takes at most while a store grows to a million records
//! and while a million expire at once. Then, in criterion's way and by the processor time of the thread, new keys and
//! replays among 10,000 and 1,000,000 live records. Then what several threads do in the time of one, for which the machine
//! has to have four cores to itself. A word after `--` chooses, such as `-- pauses` or `-- new`.

#[path = "../support/clock.rs"]
mod clock;
mod commands;
mod load;
mod pauses;
mod room;
mod threads;

use std::{env, time::Duration};

use criterion::{Criterion, criterion_group};

use self::clock::ThreadTime;

criterion_group! {
    name = memory;
    config = Criterion::default()
        .with_measurement(ThreadTime)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    targets = commands::all
}

fn main() {
    let chosen = |name| env::args().skip(1).all(|argument| argument.starts_with('-') || argument == name);
    // Before anything else has taken memory and given it back.
    if chosen("room") {
        room::print();
    }
    if chosen("pauses") {
        pauses::print();
    }
    memory();
    if chosen("threads") {
        threads::print();
    }
    Criterion::default().configure_from_args().final_summary();
}
