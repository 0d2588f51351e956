//! [`Census`]: how many runs are live.

use std::sync::Arc;

use crate::sync::{AtomicUsize, Notify, Ordering};

/// How many runs are live: from the sending of their claim until the backend has answered their end.
#[derive(Debug, Default)]
pub(crate) struct Census {
    live: AtomicUsize,
    none_left: Notify,
}

impl Census {
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// Waits until no run is live.
    pub(crate) async fn none_left(&self) {
        loop {
            // Made before the look: it is woken by whatever happens after that.
            let none_left = self.none_left.notified();
            if self.live() == 0 {
                return;
            }
            none_left.await;
        }
    }
}

/// Counts one run for as long as it exists.
#[derive(Debug)]
pub(super) struct Counted(Arc<Census>);

impl Counted {
    pub(super) fn new(census: &Arc<Census>) -> Self {
        census.live.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(census))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

#[cfg(all(test, idempotency_loom))]
mod loom;
