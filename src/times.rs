//! Lengths of time that the settings of [`IdempotencyLayer`](crate::IdempotencyLayer) and
//! [`Deduplicator`](crate::Deduplicator) can have.

use std::time::Duration;

/// A claim has to be alive when its handler starts.
#[track_caller]
pub(crate) fn lease(length: Duration) -> Duration {
    possible("a lease", length, Duration::from_millis(10))
}

/// A retry has to find the record.
#[track_caller]
pub(crate) fn retention(length: Duration) -> Duration {
    possible("a retention", length, Duration::from_millis(10))
}

#[track_caller]
pub(crate) fn window(length: Duration) -> Duration {
    possible("a window", length, Duration::from_millis(10))
}

#[track_caller]
pub(crate) fn max_run(length: Duration) -> Duration {
    possible("a max_run", length, Duration::from_nanos(1))
}

#[track_caller]
pub(crate) fn backend_timeout(length: Duration) -> Duration {
    possible("a backend time-out", length, Duration::from_millis(1))
}

/// A replay has to find the record.
#[cfg(feature = "memory")]
#[track_caller]
pub(crate) fn max_age(length: Duration) -> Duration {
    possible("a max_age", length, Duration::from_millis(10))
}

#[cfg(feature = "postgres")]
#[track_caller]
pub(crate) fn interval(length: Duration) -> Duration {
    possible("an interval", length, Duration::from_millis(1))
}

#[track_caller]
pub(crate) fn wait(length: Duration) -> Duration {
    possible("a wait", length, Duration::from_millis(1))
}

/// The upper bound keeps every deadline within what the system's clock can count.
#[track_caller]
fn possible(what: &str, length: Duration, shortest: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    assert!(length >= shortest, "{what} of {length:?} is too short: at least {shortest:?}");
    assert!(length <= LONGEST, "{what} of {length:?} is too long: at most 100 years");
    length
}
