//! A guard that no busy machine can fool: the instructions, hashed blocks and allocations of a request, counted by
//! callgrind and compared with those of `figures.txt`. Takes seconds, and needs valgrind, which there is for Linux.
//!
//! ```console
//! cargo test --release --bench instructions                # fails where a figure is out of its margin
//! cargo test --release --bench instructions -- --update    # writes them
//! benches/run instructions                                 # and their copy in docs/performance.md
//! ```
//!
//! What callgrind has seen of each case is left in `target/tmp`, for `callgrind_annotate`.

mod callgrind;
mod case;
#[path = "../support/cases.rs"]
mod cases;
mod figures;

use std::{env, fs, process::ExitCode, thread};

use self::{
    callgrind::Total,
    case::{CASES, COUNT, HASH},
    figures::{Figures, Table, environment},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/figures.txt");

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--case", case] => println!("{}", case::run(case)),
        ["--update"] => fs::write(FILE, count().to_string()).expect("the file can be written"),
        // `cargo bench` adds an option of its own.
        [] | ["--bench"] => return compare(&count()),
        _ => panic!("it takes no option, or --update"),
    }
    ExitCode::SUCCESS
}

fn compare(counted: &Table) -> ExitCode {
    print!("{counted}");
    let committed = fs::read_to_string(FILE).ok().and_then(|text| Table::parse(&text));
    let committed = committed.expect("figures.txt is of these cases; otherwise: benches/run instructions");
    if counted.environment != committed.environment {
        println!("The committed figures are of {}: ratios are compared.", committed.environment);
    }
    let complaints = counted.complaints(&committed);
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if complaints.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("What is MORE is to be mended, or has to have a reason. Then: benches/run instructions");
    ExitCode::FAILURE
}

/// Counts all cases, at once: they take no notice of each other.
fn count() -> Table {
    let totals = thread::scope(|scope| {
        let count = |case| scope.spawn(move || Total::of(case));
        let counting = [HASH].into_iter().chain(CASES).map(count).collect::<Vec<_>>();
        counting.into_iter().map(|case| case.join().expect("valgrind runs")).collect::<Vec<_>>()
    });
    let (blocks, cases) = totals.split_first().expect("there are cases");
    assert!(blocks.hashing > 0, "callgrind does not know the functions that hash");
    let per_request = |total: u64| total as f64 / f64::from(COUNT);
    let rows = cases.iter().map(|case| Figures {
        instructions: per_request(case.instructions),
        blocks: per_request(case.hashing) / per_request(blocks.hashing),
        allocations: per_request(case.allocations),
    });
    Table { environment: environment(), rows: rows.collect() }
}
