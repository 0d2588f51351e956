//! What is left of the throughput of a bare router, with many tasks on several workers.

use std::time::Instant;

use axum::{Router, extract::Request};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

use crate::{
    cases::{REQUEST, call, request, router},
    clock::{median, process_time},
};

const WORKERS: usize = 4;
const TASKS: u64 = 64;
/// How many requests a task sends in a round.
const SHARE: u64 = 250;
const AMOUNT: u64 = TASKS * SHARE;
const ROUNDS: u64 = 11;

/// How many records the store holds while it is measured.
const RECORDS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Prints a table. Each figure is the median of the rounds, in which all are measured by turns.
pub(crate) fn print() {
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().expect("a runtime");
    println!("\n{TASKS} tasks, {WORKERS} workers: of bare's throughput, on the wall and by processor time\n");
    println!("| records | first | replay | first, processor | replay, processor |\n|---|---|---|---|---|");
    for records in RECORDS {
        let [[first, first_by_time], [replay, replay_by_time]] = shares(&runtime, records);
        println!("| {records} | {first:.2} | {replay:.2} | {first_by_time:.2} | {replay_by_time:.2} |");
    }
    println!();
}

/// Of first requests and of replays, on the wall and by processor time. Each has a store of its own: what is new drives
/// out what is old, so that as many records are there all the time.
fn shares(runtime: &Runtime, records: u64) -> [[f64; 2]; 2] {
    let entries = usize::try_from(records).expect("they fit in memory");
    let guarded = || router().layer(IdempotencyLayer::new(MemoryBackend::with_limits(entries, 4 << 30)));
    let (bare, firsts, replays) = (router(), guarded(), guarded());
    for router in [&firsts, &replays] {
        for turn in 0..records.div_ceil(AMOUNT) {
            crowd(runtime, router, |number| turn * AMOUNT + number);
        }
    }
    // Those of the newest that are there for sure.
    let newest = |number: u64| records.next_multiple_of(AMOUNT) - 1 - number * 0x9e37_79b1 % (records / 2);
    let mut shares: [[Vec<f64>; 2]; 2] = Default::default();
    for round in 0..ROUNDS {
        let new = |number| (round << 32) + (1 << 40) + number;
        let bare = crowd(runtime, &bare, |number| number);
        for (case, times) in [crowd(runtime, &firsts, new), crowd(runtime, &replays, newest)].iter().enumerate() {
            (0..2).for_each(|clock| shares[case][clock].push(bare[clock] / times[clock]));
        }
    }
    shares.map(|case| case.map(median))
}

/// How long [`AMOUNT`] requests take on the wall and of the processors, in seconds.
fn crowd(runtime: &Runtime, router: &Router, key: impl Fn(u64) -> u64) -> [f64; 2] {
    let work = |task: u64| -> Vec<(Router, Request)> {
        (task * SHARE..(task + 1) * SHARE)
            .map(|number| (router.clone(), request(Some(&format!("k-{}", key(number))), REQUEST)))
            .collect()
    };
    let work: Vec<_> = (0..TASKS).map(work).collect();
    runtime.block_on(async {
        let (start, processors) = (Instant::now(), process_time());
        let tasks: JoinSet<()> = work.into_iter().map(play).collect();
        tasks.join_all().await;
        [start.elapsed(), process_time() - processors].map(|time| time.as_secs_f64())
    })
}

async fn play(work: Vec<(Router, Request)>) {
    for (router, request) in work {
        call(router, request).await;
    }
}
