//! What several threads do in the time of one.

use std::{thread, time::Instant};

use crate::{
    clock::{median, process_time},
    load::Load,
};

const THREADS: [u64; 3] = [1, 2, 4];
const LIVE: [u64; 2] = [10_000, 1_000_000];
const ROUNDS: u64 = 11;
/// New keys of each thread in a round.
const SHARE: u64 = 100_000;

/// Prints a table. Each figure is the median of the rounds, in which all are measured by turns.
pub(crate) fn print() {
    println!("\nnew keys (claim, complete, remove)\n");
    println!("| records | threads | million/s | of one thread's | ns of a processor |\n|---|---|---|---|---|");
    for live in LIVE {
        let loads = THREADS.map(|threads| Load::filled(threads, live / threads));
        let mut figures: [[Vec<f64>; 2]; 3] = Default::default();
        for round in 0..ROUNDS {
            for ((load, threads), [rates, costs]) in loads.iter().zip(THREADS).zip(&mut figures) {
                let (rate, cost) = turn_over(load, threads, live / threads, round);
                rates.push(rate);
                costs.push(cost);
            }
        }
        let figures = figures.map(|figures| figures.map(median));
        for (threads, [rate, cost]) in THREADS.iter().zip(figures) {
            println!("| {live} | {threads} | {rate:.2} | {:.2} | {cost:.0} |", rate / figures[0][0]);
        }
    }
    println!();
}

/// Replaces the oldest keys of every thread by as many new ones. Millions per second, and nanoseconds of a processor for
/// each.
fn turn_over(load: &Load, threads: u64, live: u64, round: u64) -> (f64, f64) {
    let (start, processors) = (Instant::now(), process_time());
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let first = live + round * SHARE;
                (first..first + SHARE).for_each(|number| {
                    load.run(thread, number);
                    load.remove(thread, number - live);
                });
            });
        }
    });
    let count = (threads * SHARE) as f64;
    (count / start.elapsed().as_secs_f64() / 1e6, (process_time() - processors).as_secs_f64() * 1e9 / count)
}
