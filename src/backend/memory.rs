//! [`MemoryBackend`]: claims and records in this process.

mod cache;
mod hashed;
mod index;
mod leftovers;
#[cfg(all(test, idempotency_loom))]
mod loom;
mod order;
mod shard;
mod slab;
mod store;
#[cfg(all(test, not(idempotency_loom)))]
mod tests;
mod time;
mod waiter;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

pub(super) use self::cache::{Search, Seen};
use self::{
    shard::{Bounds, Shard},
    store::Store,
};
use super::{Backend, Claim, Entry, Ownership};
use crate::{BackendError, Fingerprint, Key, Record, Token};

/// A [`Backend`] in the memory of this process: for a service of one process, and for tests.
///
/// Clones share the stored data. It is lost when the process ends, and separate processes do not share it.
///
/// ```
/// use tower_idempotency::MemoryBackend;
///
/// let backend = MemoryBackend::with_limits(100_000, 64 << 20);
/// assert!(backend.clone().is_empty());
/// ```
///
/// # Bounds
///
/// The number of entries (claims and records together) and the bytes of records are bounded, by default to 1,000,000
/// and to 256 MiB. An entry takes about 120 bytes beside its record. When a bound is reached, the oldest records are
/// evicted before their expiry, *and their requests can run again*; choose the bounds so that the records of one
/// retention fit. A claim in progress is never evicted before its deadline. If only claims are left, a further claim
/// gets [`Full`](crate::BackendErrorKind::Full).
///
/// A large store divides its bounds evenly among up to 64 parts, and its keys at random, so that one part can be full
/// slightly before the whole store is. A record that is larger than the share of one part (8 MiB or more, or all of a
/// smaller `max_bytes`) gets [`TooLarge`](crate::BackendErrorKind::TooLarge).
///
/// # Expiry
///
/// Expired entries disappear at once for all callers. Their memory is freed gradually as further claims and records are
/// stored, so that no caller ever waits for a clean-up; a store without new writes keeps its memory.
#[derive(Clone)]
pub struct MemoryBackend {
    store: Arc<Store>,
}

impl MemoryBackend {
    /// An empty store for at most 1,000,000 entries and 256 MiB of records.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(1_000_000, 256 << 20)
    }

    /// An empty store for at most `max_entries` claims and records, and `max_bytes` bytes of records.
    ///
    /// # Panics
    ///
    /// If a limit is zero, as nothing could be stored.
    #[must_use]
    #[track_caller]
    pub fn with_limits(max_entries: usize, max_bytes: usize) -> Self {
        assert!(max_entries > 0, "a store for no entries could not hold a claim");
        assert!(max_bytes > 0, "a store for no bytes could not hold a record");
        Self { store: Arc::new(Store::new(Bounds { entries: max_entries, bytes: max_bytes })) }
    }

    /// Number of claims and records in memory, including those that have expired but were not freed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.sum(Shard::len)
    }

    /// Whether nothing is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend")
            .field("entries", &self.len())
            .field("record_bytes", &self.store.sum(Shard::bytes))
            .finish()
    }
}

impl Backend for MemoryBackend {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        self.store.claim(key, token, fingerprint, lease, Instant::now()).map_err(BackendError::new)
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        Ok(self.store.renew(key, token, lease, Instant::now()))
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.store.complete(key, token, record, retention, Instant::now()).map_err(BackendError::new)
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.store.release(key, token, Instant::now());
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        Ok(self.store.get(key, Instant::now()))
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        Ok(self.store.remove(key, Instant::now()))
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        Ok(self.store.waiter(key).wait(deadline).await)
    }

    fn is_local(&self) -> bool {
        true
    }
}
