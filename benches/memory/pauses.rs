//! The longest commands while a store grows, and while everything in it expires.
//!
//! Measured is the whole command by processor time, reading that clock included. So a lock is held for less: what a
//! command removes is freed after it has unlocked. Interrupts count as well, so of several runs the calmest is printed.

use std::time::Duration;

use tokio::{
    runtime::Builder,
    time::{advance, pause},
};

use crate::{
    clock::thread_time,
    load::{Load, RETENTION},
};

const RECORDS: u32 = 1_000_000;
const RUNS: usize = 3;

/// Prints a table.
pub(crate) fn print() {
    println!("\na command, by processor time, in microseconds\n");
    println!("| while | half of them | all but 1 in 1,000 | all but 1 in 10,000 | longest |\n|---|---|---|---|---|");
    row("a store grows to 1,000,000 records", growth);
    // No timer is set in here, so that the clock moves only when told.
    Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(async {
        pause();
        let mut loads: Vec<_> = (0..RUNS).map(|_| Load::filled(1, RECORDS.into())).collect();
        advance(RETENTION).await;
        row("they expire at once", || expiry(&loads.pop().expect("there is one for each run")));
    });
    println!();
}

fn growth() -> Vec<Duration> {
    let load = Load::new();
    (0..RECORDS).map(|number| time(|| load.run(0, number.into()))).collect()
}

fn expiry(load: &Load) -> Vec<Duration> {
    let times: Vec<_> = (RECORDS..2 * RECORDS).map(|number| time(|| load.claim(0, number.into()))).collect();
    assert_eq!(load.len(), times.len(), "the claims are left");
    times
}

fn time(command: impl FnOnce()) -> Duration {
    let start = thread_time();
    command();
    thread_time() - start
}

fn row(name: &str, mut run: impl FnMut() -> Vec<Duration>) {
    let runs = (0..RUNS).map(|_| {
        let mut times = run();
        times.sort_unstable_by(|one, other| other.cmp(one));
        times
    });
    let calmest = runs.min_by_key(|times| times[0]).expect("there are runs");
    let [half, most, nearly_all, longest] =
        [2, 1_000, 10_000, usize::MAX].map(|share| calmest[calmest.len() / share].as_secs_f64() * 1e6);
    println!("| {name} | {half:.2} | {most:.1} | {nearly_all:.1} | {longest:.1} |");
}
