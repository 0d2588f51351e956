//! A backend that counts the commands it is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_idempotency::{Backend, BackendError, BoxBackend, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

/// Passes every command on, and counts it.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    backend: BoxBackend,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    renewals: AtomicUsize,
    releases: AtomicUsize,
}

impl Counting {
    pub(crate) fn new(backend: BoxBackend) -> Self {
        Self { backend, counts: Arc::default() }
    }

    /// All commands, of whatever kind.
    pub(crate) fn commands(&self) -> usize {
        self.counts.all.load(Ordering::SeqCst)
    }

    pub(crate) fn renewals(&self) -> usize {
        self.counts.renewals.load(Ordering::SeqCst)
    }

    pub(crate) fn releases(&self) -> usize {
        self.counts.releases.load(Ordering::SeqCst)
    }

    fn counted(&self) -> &BoxBackend {
        self.counts.all.fetch_add(1, Ordering::SeqCst);
        &self.backend
    }
}

impl Backend for Counting {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        self.counted().claim(key, token, fingerprint, lease).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.counts.renewals.fetch_add(1, Ordering::SeqCst);
        self.counted().renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.counted().complete(key, token, record, retention).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.counts.releases.fetch_add(1, Ordering::SeqCst);
        self.counted().release(key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.counted().get(key).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.counted().remove(key).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        self.counted().wait(key, deadline).await
    }

    fn is_local(&self) -> bool {
        self.backend.is_local()
    }
}
