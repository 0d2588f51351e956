//! The clock that all processes of a machine share. The standard library's is the same one, but its instants cannot be
//! handed to another process.

use std::{sync::Arc, thread, time::Duration};

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

/// What comes this much too late was not left in time to run by a busy machine.
pub(crate) const LATE: Duration = Duration::from_millis(100);

/// Tells `note` since when this process did not get on, whenever it has not: on a busy machine that costs leases as a
/// stall does. Ends with the others who hold `life`.
pub(crate) fn notice_starvation(life: &Arc<()>, note: impl Fn(Nanos) + Send + 'static) {
    let life = Arc::downgrade(life);
    thread::spawn(move || {
        while life.strong_count() > 0 {
            let from = now();
            thread::sleep(LATE / 10);
            if now() - from > nanos(LATE) {
                note(from);
            }
        }
    });
}
