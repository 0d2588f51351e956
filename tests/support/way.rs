//! A backend with something on the way to it.

use std::time::Duration;

use tokio::time::Instant;
use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

/// What each command has to pass, and its reply.
pub(crate) trait Way: Send + Sync + 'static {
    fn there_and_back<T: Send>(&self, command: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send;
}

/// A backend at the end of a way.
#[derive(Debug, Clone)]
pub(crate) struct Behind<W, B> {
    pub(crate) way: W,
    /// What is stored, without the way to it.
    pub(crate) backend: B,
    /// Whether it is said to be in this process.
    pub(crate) local: bool,
}

impl<W: Way, B: Backend> Backend for Behind<W, B> {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        self.way.there_and_back(self.backend.claim(key, token, of, lease)).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.way.there_and_back(self.backend.renew(key, token, lease)).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.way.there_and_back(self.backend.complete(key, token, record, retention)).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.way.there_and_back(self.backend.release(key, token)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.way.there_and_back(self.backend.get(key)).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.way.there_and_back(self.backend.remove(key)).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        self.way.there_and_back(self.backend.wait(key, deadline)).await
    }

    fn is_local(&self) -> bool {
        self.local
    }
}
