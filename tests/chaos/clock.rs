//! The clock that all processes of a machine share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`: since the machine was started, and never set back.
pub(crate) type Nanos = u64;

pub(crate) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("the clock counts from the start of the machine");
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

pub(crate) fn nanos(length: Duration) -> Nanos {
    u64::try_from(length.as_nanos()).expect("no length here is longer than 500 years")
}
