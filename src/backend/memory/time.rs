//! [`Time`]: a moment in eight bytes.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

/// A moment: the nanoseconds since the store was made, plus one.
///
/// It takes half the room of an `Instant`, saturates (after 584 years) where adding to an `Instant` panics, and leaves
/// zero free, so that a vacant place in a slab needs no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(NonZeroU64);

impl Time {
    /// When the store was made.
    pub(super) const BIRTH: Self = Self(NonZeroU64::MIN);

    /// The moment `span` later.
    pub(super) fn after(self, span: Duration) -> Self {
        let nanoseconds = span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos().into());
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// Translates between tokio's clock and [`Time`].
#[derive(Debug)]
pub(super) struct Clock {
    birth: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { birth: Instant::now() }
    }

    pub(super) fn time(&self, instant: Instant) -> Time {
        Time::BIRTH.after(instant.saturating_duration_since(self.birth))
    }

    /// `None` when `time` is later than an `Instant` can be.
    pub(super) fn instant(&self, time: Time) -> Option<Instant> {
        self.birth.checked_add(Duration::from_nanos(time.0.get() - 1))
    }
}
