//! How much memory a record takes. Reads `/proc`, so on Linux alone.

use std::fs;

use crate::load::Load;

const RECORDS: u64 = 1_000_000;

/// Prints the resident memory of this process by which it grew, per record.
pub(crate) fn print() {
    let Some(before) = resident() else { return };
    let load = Load::filled(1, RECORDS);
    let grown = |load: &Load| (resident().unwrap_or(before) - before) as f64 / load.len() as f64;
    println!("\nresident bytes per record of 300: {:.1} of 1,000,000,", grown(&load));
    (RECORDS..4 * RECORDS).for_each(|number| {
        load.run(0, number);
        load.remove(0, number - RECORDS);
    });
    println!("{:.1} after each has been replaced three times\n", grown(&load));
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kilobytes.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
