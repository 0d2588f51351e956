//! [`Board`]: who waits for which key, and the notices that make them look again.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    fmt, mem,
    sync::{Arc, PoisonError, Weak},
};

use tokio::{sync::oneshot, task::AbortHandle, time::Instant};

use crate::{
    BackendError, Entry, Key,
    sync::{AtomicBool, Mutex, MutexGuard, Notify, Ordering},
};

/// What the waiters of a key are told.
pub(super) type Answer = Result<Option<Entry>, Arc<BackendError>>;

/// One who waits for a key.
pub(super) struct Waiter {
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The waiters of a backend in this process, key by key. Each key that is waited for has one watcher, which reads for all
/// of them.
#[derive(Default)]
pub(super) struct Board {
    keys: Mutex<HashMap<Key, Waited>>,
    /// Whether notices arrive.
    listening: AtomicBool,
    subscriber: Mutex<Option<AbortHandle>>,
    /// Notified when a key is waited for that was not, or no longer.
    #[cfg(feature = "postgres")]
    pub(super) changed: Arc<Notify>,
}

/// A key that is waited for.
#[derive(Default)]
struct Waited {
    waiters: Vec<Waiter>,
    look: Arc<Notify>,
}

impl Board {
    /// Adds a waiter and makes its watcher look. `Some`: the key has no watcher yet, and the caller has to start it.
    pub(super) fn join(self: &Arc<Self>, key: Key, waiter: Waiter) -> Option<Watch> {
        match lock(&self.keys).entry(key) {
            Place::Occupied(mut waited) => {
                waited.get_mut().waiters.push(waiter);
                waited.get().look.notify_one();
                None
            }
            Place::Vacant(place) => {
                let waited = place.insert(Waited::default());
                waited.waiters.push(waiter);
                #[cfg(feature = "postgres")]
                self.changed.notify_one();
                Some(Watch { board: Arc::clone(self), key, look: Arc::clone(&waited.look), over: false })
            }
        }
    }

    /// Lets the task that `subscribe` returns pass notices on to this board, unless there is one.
    pub(super) fn listen<F>(self: &Arc<Self>, subscribe: impl FnOnce(Weak<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut subscriber = lock(&self.subscriber);
        // It ends with the runtime that it was spawned on; then another begins.
        if subscriber.as_ref().is_none_or(AbortHandle::is_finished) {
            *subscriber = Some(tokio::spawn(subscribe(Arc::downgrade(self))).abort_handle());
        }
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Notices arrive from now on, or no longer. Some may have been missed, so that everybody has to look again.
    pub(super) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Release);
        lock(&self.keys).values().for_each(|waited| waited.look.notify_one());
    }

    /// The keys that are waited for, up to `limit` of them.
    #[cfg(feature = "postgres")]
    pub(super) fn keys(&self, limit: usize) -> Vec<Key> {
        lock(&self.keys).keys().take(limit).copied().collect()
    }

    /// `key` is no longer in progress, or so it seems.
    pub(super) fn notice(&self, key: &Key) {
        if let Some(waited) = lock(&self.keys).get(key) {
            waited.look.notify_one();
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.subscriber).take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("keys", &lock(&self.keys).len()).field("listening", &self.listening).finish()
    }
}

/// The right to read for all waiters of a key. While it exists, later waiters join them.
pub(super) struct Watch {
    board: Arc<Board>,
    pub(super) key: Key,
    /// Notified whenever there is a reason to look.
    pub(super) look: Arc<Notify>,
    over: bool,
}

impl Watch {
    /// Takes those who wait now. One that joins later must not be told what was read before.
    pub(super) fn take(&self) -> Vec<Waiter> {
        lock(&self.board.keys).get_mut(&self.key).map(|waited| mem::take(&mut waited.waiters)).unwrap_or_default()
    }

    /// Puts back those who go on waiting, and returns the earliest of all deadlines. `None`: nobody waits any more.
    pub(super) fn put_back(&mut self, mut waiting: Vec<Waiter>) -> Option<Instant> {
        let mut keys = lock(&self.board.keys);
        let Place::Occupied(mut waited) = keys.entry(self.key) else { return None };
        let waiters = &mut waited.get_mut().waiters;
        waiters.append(&mut waiting);
        waiters.retain(|waiter| !waiter.answer.is_closed());
        let earliest = waiters.iter().map(|waiter| waiter.deadline).min();
        if earliest.is_none() {
            waited.remove();
            self.over = true;
            #[cfg(feature = "postgres")]
            self.board.changed.notify_one();
        }
        earliest
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A runtime that shuts down drops its watchers. Nobody may join one that is gone.
        if !self.over {
            let waited = lock(&self.board.keys).remove(&self.key);
            drop(waited); // not under the lock: its end wakes those who have waited
            #[cfg(feature = "postgres")]
            self.board.changed.notify_one();
        }
    }
}

// Nothing that can panic runs under these locks, so a poisoned one guards a whole value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, idempotency_loom))]
mod loom;
