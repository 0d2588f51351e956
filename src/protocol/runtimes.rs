//! [`Runtimes`]: the live runs of a protocol, runtime by runtime.
//!
//! A layer may serve several runtimes: one per thread, or one after another. Each renews the leases of its own runs, so
//! that one that stands still between two requests, or has ended, does not let those of the others expire.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    time::sleep,
};

use super::live::LiveRuns;
use crate::sync::{Mutex, MutexGuard};

/// The live runs of each runtime on which there have been any. There is one runtime, mostly.
#[derive(Debug, Default)]
pub(super) struct Runtimes(Mutex<Vec<(Id, Arc<LiveRuns>)>>);

impl Runtimes {
    /// Those of the runtime that this is called on.
    ///
    /// # Panics
    ///
    /// Outside of a runtime, and on one without a timer: there no lease could be renewed.
    pub(super) fn here(&self) -> Arc<LiveRuns> {
        let id = Handle::current().id();
        let known = self.lock().iter().find(|(other, _)| *other == id).map(|(_, live)| Arc::clone(live));
        known.unwrap_or_else(|| self.enter(id))
    }

    fn enter(&self, id: Id) -> Arc<LiveRuns> {
        drop(sleep(Duration::ZERO)); // panics without a timer
        let mut runtimes = self.lock();
        // Another thread of the same runtime may have been faster.
        if let Some((_, live)) = runtimes.iter().find(|(other, _)| *other == id) {
            return Arc::clone(live);
        }
        let live = Arc::default();
        runtimes.push((id, Arc::clone(&live)));
        live
    }

    /// The runtime of these runs has ended. Another may get its name.
    pub(super) fn leave(&self, live: &Arc<LiveRuns>) {
        self.lock().retain(|(_, other)| !Arc::ptr_eq(other, live));
    }

    /// Lets each renewer look whether the protocol is gone.
    pub(super) fn wake_renewers(&self) {
        // Not under the lock: to wake runs the code of an executor, which may drop the task, and that takes the lock.
        let runtimes = self.lock().clone();
        runtimes.iter().for_each(|(_, live)| live.wake_renewer());
    }

    // Nothing that can panic runs under the lock, so a poisoned list is a whole one.
    fn lock(&self) -> MutexGuard<'_, Vec<(Id, Arc<LiveRuns>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "memory", not(idempotency_loom)))]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::{
        Fingerprint, Key, MemoryBackend,
        protocol::{Protocol, Terms},
    };

    #[test]
    fn a_runtime_is_known_from_its_first_run_until_it_ends() {
        let protocol = Arc::new(Protocol::new(Arc::new(MemoryBackend::new()), Terms::default()));
        let runtimes = [1, 2].map(|_| Builder::new_current_thread().enable_time().build().unwrap());
        for (at, runtime) in (0..).zip(&runtimes) {
            for run in [0, 1] {
                let key = Key::from_bytes([2 * at + run; Key::LEN]);
                runtime.block_on(protocol.claim(&key, &Fingerprint::of(""))).expect("the key is free");
            }
        }
        assert_eq!(protocol.runtimes.lock().len(), 2);
        drop(runtimes);
        assert_eq!(protocol.runtimes.lock().len(), 0);
    }
}
