//! [`LiveRuns`]: the runs of this process, in the order in which their leases want to be renewed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::lease::Held;

#[derive(Debug, Default)]
pub(super) struct LiveRuns {
    table: Mutex<Table>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    runs: BTreeMap<Place, Arc<Held>>,
    /// When the renewer means to look again; `None` when there is no renewer.
    wake: Option<Instant>,
}

/// When a run is due for renewal, and its address, which tells it from others that are due in the same instant.
type Place = (Instant, usize);

impl LiveRuns {
    /// Puts a run into the order, unless it has ended. `true`: there is no renewer, and the caller has to start it.
    pub(super) fn insert(&self, held: &Arc<Held>, due: Instant) -> bool {
        let mut table = self.lock();
        if !held.set_due(Some(due)) {
            return false;
        }
        table.runs.insert(place(held, due), Arc::clone(held));
        match table.wake {
            Some(wake) if wake <= due => return false,
            Some(_) => self.earlier.notify_one(),
            None => {}
        }
        table.wake.replace(due).is_none()
    }

    /// Takes a run out for good: it has ended.
    pub(super) fn remove(&self, held: &Arc<Held>) {
        let mut table = self.lock();
        if let Some(due) = held.end() {
            table.runs.remove(&place(held, due));
        }
    }

    /// Takes out the runs that are due. Whoever renews one puts it back.
    pub(super) fn take_due(&self, now: Instant) -> Vec<Arc<Held>> {
        let mut table = self.lock();
        let mut due = Vec::new();
        while let Some(first) = table.runs.first_entry().filter(|first| first.key().0 <= now) {
            let held = first.remove();
            held.set_due(None);
            due.push(held);
        }
        due
    }

    /// Waits until the next run is due, or until `latest`.
    pub(super) async fn wait(&self, latest: Instant) {
        let wake = {
            let mut table = self.lock();
            let wake = table.runs.first_key_value().map_or(latest, |((due, _), _)| latest.min(*due));
            table.wake = Some(wake);
            wake
        };
        let _ = timeout_at(wake, self.earlier.notified()).await;
    }

    /// Lets the renewer look again at once, perhaps to find that the layer is gone.
    pub(super) fn wake_renewer(&self) {
        self.earlier.notify_one();
    }

    /// The renewer has ended; the next run needs another.
    pub(super) fn renewer_ended(&self) {
        self.lock().wake = None;
    }

    // Nothing that can panic runs under the lock, so a poisoned table is a whole one.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(held: &Arc<Held>, due: Instant) -> Place {
    (due, Arc::as_ptr(held).addr())
}
