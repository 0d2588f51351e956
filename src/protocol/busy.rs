//! [`BusyKeys`]: the keys that this process claims or runs, so that duplicates that meet here need not ask the backend.
//!
//! The reasons are in `docs/decisions/0011-shared-claims.md`.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{LiveRun, Refusal, judge, refusal};
use crate::{
    BackendError, BackendErrorKind, Entry, Fingerprint, Key,
    sync::{Mutex, MutexGuard, watch},
};

/// The keys that this process is busy with: an entry lives while a claim is under way, and then for as long as the run
/// that it led to holds the key.
#[derive(Debug, Default)]
pub(super) struct BusyKeys(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<Key, Busy>,
    /// How many claims have been made: each has its number.
    claims: u64,
}

#[derive(Debug)]
struct Busy {
    claim: u64,
    /// Until when others may wait for the claim. Whoever makes one that takes longer may be gone.
    shared_until: Instant,
    /// The run that the claim has led to.
    run: Option<Arc<LiveRun>>,
    /// Made for the first follower: most keys have none.
    news: Option<watch::Sender<News>>,
}

/// What the followers of a claim are told of it. The channel closes when nothing more can come.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// The claim is not answered yet.
    Awaited,
    /// A run of this process holds the key.
    Held(Fingerprint),
    /// The key is taken: by a run elsewhere, or for good.
    Found(Entry),
    /// The backend did not answer.
    Failed(BackendErrorKind),
}

/// Whose turn it is to claim a key.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    /// This request claims it, and tells the others.
    Lead(Lead<'a>),
    /// Another one does, or has, and tells this one.
    Follow(watch::Receiver<News>),
}

/// The one claim for a key that is under way in this process. When it is dropped without news, one of its followers takes
/// the lead.
#[derive(Debug)]
pub(super) struct Lead<'a> {
    busy: &'a BusyKeys,
    key: Key,
    claim: u64,
}

impl BusyKeys {
    /// Takes the lead for `key`, unless another has claimed it for no longer than `patience`, or a run holds it.
    pub(super) fn enter(&self, key: Key, patience: Duration) -> Turn<'_> {
        let now = Instant::now();
        let mut table = self.lock();
        if let Some(busy) = table.keys.get_mut(&key).filter(|busy| busy.is_shared(now)) {
            return Turn::Follow(busy.subscribe());
        }
        table.claims += 1;
        let claim = table.claims;
        let replaced = table.keys.insert(key, Busy::new(claim, now + patience));
        drop(table); // before what is replaced: its end wakes those who have followed it
        drop(replaced);
        Turn::Lead(Lead { busy: self, key, claim })
    }

    /// The fingerprint of the run that holds `key`, and the channel for its end.
    pub(super) fn held(&self, key: &Key) -> Option<(Fingerprint, watch::Receiver<News>)> {
        let mut table = self.lock();
        let busy = table.keys.get_mut(key).filter(|busy| busy.is_shared(Instant::now()))?;
        let fingerprint = busy.run.as_ref()?.fingerprint;
        Some((fingerprint, busy.subscribe()))
    }

    /// From now on nobody is told that `run` holds its key. Those that wait for its end do so until the sender that is
    /// returned has told them of it, or is dropped.
    pub(super) fn part(&self, run: &Arc<LiveRun>) -> Option<watch::Sender<News>> {
        self.take(&run.key, |busy| busy.run.as_ref().is_some_and(|other| Arc::ptr_eq(other, run)))
    }

    fn take(&self, key: &Key, wanted: impl FnOnce(&Busy) -> bool) -> Option<watch::Sender<News>> {
        let mut table = self.lock();
        let _wanted = table.keys.get(key).filter(|busy| wanted(busy))?;
        table.keys.remove(key)?.news
    }

    /// How many keys there are.
    #[cfg(feature = "test-util")]
    pub(super) fn len(&self) -> usize {
        self.lock().keys.len()
    }

    // Nothing that can panic runs under the lock, so a poisoned table is a whole one.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    fn new(claim: u64, shared_until: Instant) -> Self {
        Self { claim, shared_until, run: None, news: None }
    }

    fn subscribe(&mut self) -> watch::Receiver<News> {
        let now = || self.run.as_ref().map_or(News::Awaited, |run| News::Held(run.fingerprint));
        self.news.get_or_insert_with(|| watch::Sender::new(now())).subscribe()
    }

    fn is_shared(&self, now: Instant) -> bool {
        match &self.run {
            Some(run) => run.is_entitled(now),
            None => now < self.shared_until,
        }
    }
}

impl Lead<'_> {
    /// The claim has led to `run`, which holds the key until it [parts](BusyKeys::part) with it.
    pub(super) fn hold(self, run: &Arc<LiveRun>) {
        let mut table = self.busy.lock();
        // One that took too long has perhaps been replaced.
        let busy = table.keys.entry(self.key).or_insert_with(|| Busy::new(self.claim, run.started));
        busy.run = Some(Arc::clone(run));
        let news = busy.news.clone();
        drop(table); // others need it while thousands are woken
        if let Some(news) = news {
            news.send_replace(News::Held(run.fingerprint));
        }
    }

    /// The claim has led to no run.
    pub(super) fn tell(self, news: News) {
        if let Some(sender) = self.leave() {
            sender.send_replace(news);
        }
    }

    fn leave(&self) -> Option<watch::Sender<News>> {
        self.busy.take(&self.key, |busy| busy.claim == self.claim && busy.run.is_none())
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

impl News {
    /// Waits until a shared claim is answered. `None`: its leader is gone.
    pub(super) async fn of_claim(mut news: watch::Receiver<Self>) -> Option<Self> {
        let answer = news.wait_for(|news| !matches!(news, Self::Awaited)).await.ok()?;
        Some(answer.clone())
    }

    /// Waits until a run is over. `None`: it has left no record.
    pub(super) async fn of_end(mut news: watch::Receiver<Self>) -> Option<Self> {
        let record = news.wait_for(|news| matches!(news, Self::Found(_))).await.ok()?;
        Some(record.clone())
    }

    /// Whether this may no longer be true.
    pub(super) fn can_change(&self) -> bool {
        matches!(self, Self::Found(Entry::InProgress { .. }))
    }

    /// What it means to a request with `fingerprint`.
    pub(super) fn refusal(self, fingerprint: &Fingerprint) -> Refusal {
        match self {
            Self::Held(holder) => judge(&holder, fingerprint, Refusal::InProgress),
            Self::Found(entry) => refusal(entry, fingerprint),
            Self::Failed(kind) => Refusal::Unavailable(BackendError::new(kind)),
            Self::Awaited => Refusal::Unavailable(BackendError::timed_out()),
        }
    }
}

#[cfg(all(test, idempotency_loom))]
mod loom;
