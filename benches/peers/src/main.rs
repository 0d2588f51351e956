//! What a layer for idempotency costs in front of an axum router: this one, and others that do the same.
//!
//! ```console
//! cargo run --release --ignore-rust-version --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! A figure is how many times as much CPU time as bare axum a request takes, through `Router::oneshot` on one thread; in
//! the last column what is left of bare axum's throughput, for which the machine has to have four cores to itself. Each
//! is the median of five rounds, in which all contenders are measured by turns, with stores that were empty before.

mod contender;
mod measure;

use std::time::Duration;

use self::measure::{Case, all_at_once, one_by_one};

const ROUNDS: usize = 5;

fn main() {
    let names = names();
    let [no_key, first, replay] = [Case::NoKey, Case::First, Case::Replay].map(|case| rounds(|| one_by_one(case)));
    let at_once = rounds(all_at_once);

    println!("| | no key | first | replay | 64 tasks, 4 workers, first, of bare's throughput |");
    println!("|---|---|---|---|---|");
    for (row, name) in names.iter().enumerate() {
        let [no_key, first, replay] = [&no_key, &first, &replay].map(|rounds| slowdown(rounds, row));
        println!("| {name} | {no_key:.2} | {first:.2} | {replay:.2} | {:.2} |", 1.0 / slowdown(&at_once, row));
    }
    let bare = median(no_key.iter().map(|round| round[0].as_secs_f64() * 1e9));
    println!("\n1.00 = bare axum, {bare:.0} ns");
}

fn names() -> Vec<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { contender::contenders().iter().map(|contender| contender.name).collect() })
}

fn rounds(measure: impl Fn() -> Vec<Duration>) -> Vec<Vec<Duration>> {
    (0..ROUNDS).map(|_| measure()).collect()
}

/// How many times as long as the first contender the one in `row` took.
fn slowdown(rounds: &[Vec<Duration>], row: usize) -> f64 {
    median(rounds.iter().map(|round| round[row].as_secs_f64() / round[0].as_secs_f64()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
