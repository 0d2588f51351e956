//! [`LiveRuns`]: the runs of this process, in the order in which their leases are due for renewal.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::word::{LastWord, Word};
use crate::{
    Fingerprint, Key, Record, Token,
    sync::{AtomicBool, Mutex, MutexGuard, Notify, Ordering},
};

/// One run, from its claim until the backend has answered its end, as this process sees it.
#[derive(Debug)]
pub(crate) struct LiveRun {
    pub(crate) key: Key,
    pub(crate) token: Token,
    pub(super) fingerprint: Fingerprint,
    pub(super) started: Instant,
    /// For how long the claim was made, and is renewed.
    pub(super) term: Duration,
    state: Mutex<State>,
    lost: AtomicBool,
    word: LastWord,
    /// The record that the handler has stored itself.
    committed: OnceLock<Record>,
    /// Whether the handler has tried to store a record itself, and nobody knows what came of it.
    doubted: AtomicBool,
}

#[derive(Debug)]
struct State {
    deadline: Instant,
    /// Its place in the order of the renewer.
    due: Option<Instant>,
    /// It was seen past its deadline, perhaps before the renewer could run.
    overdue: bool,
    ended: bool,
}

impl LiveRun {
    pub(super) fn new(key: Key, token: Token, fingerprint: Fingerprint, sent: Instant, term: Duration) -> Self {
        let state = State { deadline: private_deadline(sent, term), due: None, overdue: false, ended: false };
        Self {
            key,
            token,
            fingerprint,
            started: sent,
            term,
            state: Mutex::new(state),
            lost: AtomicBool::new(false),
            word: LastWord::default(),
            committed: OnceLock::new(),
            doubted: AtomicBool::new(false),
        }
    }

    /// Until when this process may rely on its claim, by its own clock.
    pub(super) fn deadline(&self) -> Instant {
        self.state().deadline
    }

    pub(super) fn is_entitled(&self, now: Instant) -> bool {
        now < self.deadline()
    }

    /// A renewal that was sent at `sent` has taken effect.
    pub(super) fn extend(&self, sent: Instant) {
        self.state().deadline = private_deadline(sent, self.term);
    }

    /// Notes its place in the renewer's order; `false` when the run has ended and has none.
    fn set_due(&self, due: Option<Instant>) -> bool {
        let mut state = self.state();
        state.due = due;
        !state.ended
    }

    /// Ends the run, and returns its last place in the renewer's order.
    fn end(&self) -> Option<Instant> {
        let mut state = self.state();
        state.ended = true;
        state.due.take()
    }

    // Nothing that can panic runs under the lock, so a poisoned state is a whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the lease as lost. Returns whether that is new; what is committed cannot be lost.
    pub(super) fn lose(&self) -> bool {
        !self.is_committed() && !self.lost.swap(true, Ordering::AcqRel)
    }

    /// Whether the lease is lost, for whoever may still stop: a handler that stalls the renewer too has to learn it as soon
    /// as it goes on. What was said once stays.
    pub(crate) fn is_lost(&self) -> bool {
        let mut state = self.state();
        state.overdue |= !state.ended && !self.is_committed() && state.deadline <= Instant::now();
        state.overdue || self.lost.load(Ordering::Acquire)
    }

    pub(crate) fn say(&self, word: Word) {
        self.word.say(word);
    }

    /// The handler has stored this record, in the transaction of its effects: its run has ended.
    #[cfg(feature = "postgres")]
    pub(crate) fn commit(&self, record: Record) {
        let _ = self.committed.set(record); // the first is the one that was stored
    }

    /// The handler has tried to, and nobody knows what came of it.
    #[cfg(feature = "postgres")]
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::Release);
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.committed().is_some()
    }

    /// A later attempt that has succeeded leaves no doubt: it could not have beside the first.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire) && !self.is_committed()
    }

    pub(super) fn committed(&self) -> Option<&Record> {
        self.committed.get()
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The handler's last word, if it has said one.
    pub(crate) fn word(&self) -> Option<Word> {
        self.word.get()
    }
}

/// A tenth of the term is kept back: clocks run at different speeds, and what is decided now takes effect later.
fn private_deadline(sent: Instant, term: Duration) -> Instant {
    sent + (term - term / 10)
}

#[derive(Debug, Default)]
pub(super) struct LiveRuns {
    table: Mutex<Table>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    runs: BTreeMap<Place, Arc<LiveRun>>,
    /// When the renewer means to look again; `None` when there is no renewer.
    wake: Option<Instant>,
}

/// When a run is due for renewal, and its address, which tells it from others that are due in the same instant.
type Place = (Instant, usize);

impl LiveRuns {
    /// Puts a run into the order, unless it has ended. `true`: there is no renewer, and the caller has to start it.
    pub(super) fn insert(&self, run: &Arc<LiveRun>, due: Instant) -> bool {
        let mut table = self.lock();
        if !run.set_due(Some(due)) {
            return false;
        }
        table.runs.insert(place(run, due), Arc::clone(run));
        match table.wake {
            Some(wake) if wake <= due => return false,
            Some(_) => self.earlier.notify_one(),
            None => {}
        }
        table.wake.replace(due).is_none()
    }

    /// Takes a run out for good: it has ended.
    pub(super) fn remove(&self, run: &Arc<LiveRun>) {
        let mut table = self.lock();
        if let Some(due) = run.end() {
            table.runs.remove(&place(run, due));
        }
    }

    /// Takes out the runs that are due. Whoever renews one puts it back.
    pub(super) fn take_due(&self, now: Instant) -> Vec<Arc<LiveRun>> {
        let mut table = self.lock();
        let mut due = Vec::new();
        while let Some(first) = table.runs.first_entry().filter(|first| first.key().0 <= now) {
            let run = first.remove();
            run.set_due(None);
            due.push(run);
        }
        due
    }

    /// Waits until the next run is due, at most until `latest`.
    pub(super) async fn wait(&self, latest: Instant) {
        let wake = self.lie_down(latest);
        let _ = timeout_at(wake, self.earlier.notified()).await;
    }

    /// When the renewer has to look again. From now on a run that is due earlier wakes it.
    fn lie_down(&self, latest: Instant) -> Instant {
        let mut table = self.lock();
        let wake = table.runs.first_key_value().map_or(latest, |((due, _), _)| latest.min(*due));
        table.wake = Some(wake);
        wake
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

fn place(run: &Arc<LiveRun>, due: Instant) -> Place {
    (due, Arc::as_ptr(run).addr())
}

#[cfg(all(test, idempotency_loom))]
mod loom;
