//! What a layer for idempotency costs in front of an axum router: this one, and others that do the same.
//!
//! ```console
//! cargo run --release --ignore-rust-version --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! A figure is how many times as much processor time as bare axum a request takes, through `Router::oneshot` on one
//! thread; in the last two columns what is left of bare axum's throughput, for which the machine has to have four cores to
//! itself. Each is the median of five rounds, in which all contenders are measured by turns, with stores that were empty
//! before. A dash: the contender runs such requests. With `-- --csv` lines for other programs are printed instead of the
//! table: contender, case, figure.

mod contender;
mod measure;

use std::env;

use self::measure::{AMOUNT, Case, Times, all_at_once, one_by_one};

const ROUNDS: usize = 5;

/// A column of the table: the figure of each contender.
struct Column {
    name: &'static str,
    figures: Vec<Option<f64>>,
}

fn main() {
    let csv = env::args().any(|argument| argument == "--csv");
    let names = names();
    let no_key = rounds(|| one_by_one(Case::NoKey));
    let bare = median(no_key.iter().filter_map(|round| round[0]).map(|time| time.as_secs_f64() * 1e9 / AMOUNT as f64));
    let slowdown = |name, rounds: Vec<Times>| Column { name, figures: of_bare(&rounds, |time, bare| time / bare) };
    let throughput = |name, rounds: Vec<Times>| Column { name, figures: of_bare(&rounds, |time, bare| bare / time) };
    let columns = [
        slowdown("no key", no_key),
        slowdown("first", rounds(|| one_by_one(Case::First))),
        slowdown("replay", rounds(|| one_by_one(Case::Replay))),
        slowdown("conflict", rounds(|| one_by_one(Case::Conflict))),
        throughput("64 tasks, first", rounds(|| all_at_once(Case::First))),
        throughput("64 tasks, replay", rounds(|| all_at_once(Case::Replay))),
    ];
    if csv {
        print_lines(&names, &columns)
    } else {
        print_table(&names, &columns)
    }
    if csv { println!("bare axum,nanoseconds,{bare:.0}") } else { println!("\n1.00 = bare axum, {bare:.0} ns") }
}

fn names() -> Vec<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { contender::contenders().iter().map(|contender| contender.name).collect() })
}

fn rounds(measure: impl Fn() -> Times) -> Vec<Times> {
    (0..ROUNDS).map(|_| measure()).collect()
}

/// The ratio of each contender to the first one.
fn of_bare(rounds: &[Times], ratio: impl Fn(f64, f64) -> f64) -> Vec<Option<f64>> {
    let seconds = |round: &Times, row: usize| round[row].map(|time| time.as_secs_f64());
    let figure = |row| {
        let ratios = rounds.iter().map(|round| Some(ratio(seconds(round, row)?, seconds(round, 0)?)));
        ratios.collect::<Option<Vec<_>>>().map(|ratios| median(ratios.into_iter()))
    };
    (0..rounds[0].len()).map(figure).collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print_table(names: &[&str], columns: &[Column]) {
    println!("| |{}", columns.iter().map(|column| format!(" {} |", column.name)).collect::<String>());
    println!("|---|{}", "---|".repeat(columns.len()));
    for (row, name) in names.iter().enumerate() {
        let figure = |column: &Column| column.figures[row].map_or(" - |".into(), |figure| format!(" {figure:.2} |"));
        println!("| {name} |{}", columns.iter().map(figure).collect::<String>());
    }
}

fn print_lines(names: &[&str], columns: &[Column]) {
    for Column { name: case, figures } in columns {
        for (name, figure) in names.iter().zip(figures) {
            println!("{name},\"{case}\",{}", figure.map_or(String::new(), |figure| format!("{figure:.3}")));
        }
    }
}
