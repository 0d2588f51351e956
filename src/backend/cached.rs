//! [`CachedBackend`]: records of a shared backend, kept in the memory of this process as well.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{
    Backend, Claim, Entry, Ownership,
    memory::{MemoryBackend, Search, Seen},
};
use crate::{BackendError, Fingerprint, Key, Record, Token, times};

/// A shared [`Backend`] with a cache of records in memory: replays of records that this process has seen need no round
/// trip.
///
/// ```
/// # async fn start(redis: impl tower_idempotency::Backend) {
/// use tower_idempotency::{CachedBackend, IdempotencyLayer, MemoryBackend};
///
/// let memory = MemoryBackend::with_limits(100_000, 64 << 20); // its bounds are those of the cache
/// let layer = IdempotencyLayer::new(CachedBackend::new(memory, redis));
/// # drop(layer);
/// # }
/// ```
///
/// A record never changes, so a copy is as good as the original as long as that one exists. The cache keeps records and
/// tombstones that this process completes, waits for or encounters, but never claims: the shared backend alone decides
/// whether a request may run. Each request is compared with a record by its fingerprint, wherever the record comes
/// from.
///
/// # How old a record may be
///
/// A record is served from memory until [`max_age`](Self::max_age) after it was last seen in the shared backend: 60
/// seconds by default. For at most this time longer, this process may replay a record that
///
/// * has been [removed](Backend::remove) by another process, or without this backend, even if the request was run again
///   there. A removal through this backend or a clone of it takes effect at once;
/// * has expired, as a record does not contain its expiry. Records that this process completes are kept for their
///   retention, if that is shorter.
///
/// So a cache can delay when a request runs again, but never make it run twice: whatever is not answered from a record
/// is decided by the shared backend. Choose no `max_age` longer than the shortest [`window`](crate::BodyHash) whose end
/// matters.
///
/// # Memory
///
/// The cache is bounded by the limits of its [`MemoryBackend`], whose oldest records are evicted first. Use that
/// `MemoryBackend` for nothing else; clones of a `CachedBackend` share it. A record that is too large for it is read
/// from the shared backend each time.
#[derive(Clone)]
pub struct CachedBackend<B> {
    memory: MemoryBackend,
    shared: B,
    max_age: Duration,
}

impl<B: Backend> CachedBackend<B> {
    /// Caches records of `shared` in `memory`, for 60 seconds each.
    #[must_use]
    pub fn new(memory: MemoryBackend, shared: B) -> Self {
        Self { memory, shared, max_age: Duration::from_secs(60) }
    }

    /// How long a record may be served from memory after it was seen in the shared backend: by default 60 seconds.
    ///
    /// # Panics
    ///
    /// When `max_age` is shorter than 10 milliseconds, as no replay would find a record, or longer than 100 years.
    #[must_use]
    #[track_caller]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = times::max_age(max_age);
        self
    }

    /// The record that is kept under `key`, or else what `shared` answers.
    async fn entry(
        &self,
        key: &Key,
        shared: impl Future<Output = Result<Option<Entry>, BackendError>>,
    ) -> Result<Option<Entry>, BackendError> {
        let (kept, search) = self.memory.search(key);
        if let Some(record) = kept {
            return Ok(Some(Entry::Completed(record)));
        }
        let entry = shared.await?;
        if let Some(Entry::Completed(record)) = &entry {
            self.keep(key, record, &search);
        }
        Ok(entry)
    }

    /// Keeps a copy of a record found in the shared backend by a command that was sent after `search`.
    fn keep(&self, key: &Key, record: &Record, search: &Search) {
        // What was received is perhaps a slice of something larger, and would keep that in memory.
        self.memory.keep(key, record.detached(), Seen::Found, self.max_age, search);
    }
}

impl<B> fmt::Debug for CachedBackend<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedBackend")
            .field("memory", &self.memory)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Backend for CachedBackend<B> {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        let (kept, search) = self.memory.search(key);
        if let Some(record) = kept {
            return Ok(Claim::Completed(record));
        }
        let claim = self.shared.claim(key, token, fingerprint, lease).await?;
        match &claim {
            Claim::Acquired => self.memory.note(key, token, fingerprint, lease),
            Claim::InProgress { .. } => {}
            Claim::Completed(record) => self.keep(key, record, &search),
        }
        Ok(claim)
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        let ownership = self.shared.renew(key, token, lease).await?;
        if ownership == Ownership::Held {
            let _noted = self.memory.renew(key, token, lease).await?;
        }
        Ok(ownership)
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        let (_, search) = self.memory.search(key);
        // What is sent once more does not tell which sending was executed, nor when.
        let is_first = self.memory.strike(key, token);
        let ownership = self.shared.complete(key, token, record, retention).await?;
        if is_first && ownership == Ownership::Held {
            // Counted from before it was sent, so that the copy expires no later than the original.
            let life = retention.min(self.max_age);
            self.memory.keep(key, record.clone(), Seen::Stored, life, &search);
        }
        Ok(ownership)
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.memory.strike(key, token);
        self.shared.release(key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.entry(key, self.shared.get(key)).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        // Ends also when there is no answer, or nobody waits for it any more: the original may be gone all the same.
        let _removal = self.memory.begin_removal(key);
        self.shared.remove(key).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        self.entry(key, self.shared.wait(key, deadline)).await
    }

    fn is_local(&self) -> bool {
        self.shared.is_local()
    }
}
