//! Lengths of time that a setting can have.

use std::time::Duration;

/// The upper bound keeps every deadline within what the system's clock can count.
#[track_caller]
pub(crate) fn assert_possible(what: &str, length: Duration, shortest: Duration) {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    assert!(length >= shortest, "{what} of {length:?} is too short: at least {shortest:?}");
    assert!(length <= LONGEST, "{what} of {length:?} is too long: at most 100 years");
}
