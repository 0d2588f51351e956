//! [`BoxBackend`]: a backend chosen at run time.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Backend, Claim, Entry, Ownership};
use crate::{BackendError, Fingerprint, Key, Record, Token};

/// Any [`Backend`] behind one type, for a choice at run time. Clones share the backend.
///
/// Costs one allocation per command.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use tower_idempotency::{Backend, BoxBackend, IdempotencyLayer, MemoryBackend};
///
/// fn layer(shared: Option<impl Backend>) -> IdempotencyLayer<BoxBackend> {
///     IdempotencyLayer::new(match shared {
///         Some(shared) => BoxBackend::new(shared),
///         None => BoxBackend::new(MemoryBackend::new()), // on the developer's machine
///     })
/// }
/// # layer(None::<MemoryBackend>);
/// # }
/// ```
#[derive(Clone)]
pub struct BoxBackend(Arc<dyn ErasedBackend>);

impl BoxBackend {
    /// Wraps `backend` in the common type.
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }
}

impl fmt::Debug for BoxBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxBackend")
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// The object-safe twin of [`Backend`], method by method.
trait ErasedBackend: Send + Sync {
    fn claim<'a>(
        &'a self,
        key: &'a Key,
        token: Token,
        fingerprint: &'a Fingerprint,
        lease: Duration,
    ) -> Answer<'a, Claim>;
    fn renew<'a>(&'a self, key: &'a Key, token: Token, lease: Duration) -> Answer<'a, Ownership>;
    fn complete<'a>(
        &'a self,
        key: &'a Key,
        token: Token,
        record: &'a Record,
        retention: Duration,
    ) -> Answer<'a, Ownership>;
    fn release<'a>(&'a self, key: &'a Key, token: Token) -> Answer<'a, ()>;
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Entry>>;
    fn remove<'a>(&'a self, key: &'a Key) -> Answer<'a, bool>;
    fn wait<'a>(&'a self, key: &'a Key, deadline: Instant) -> Answer<'a, Option<Entry>>;
    fn is_local(&self) -> bool;
}

impl<B: Backend> ErasedBackend for B {
    fn claim<'a>(
        &'a self,
        key: &'a Key,
        token: Token,
        fingerprint: &'a Fingerprint,
        lease: Duration,
    ) -> Answer<'a, Claim> {
        Box::pin(Backend::claim(self, key, token, fingerprint, lease))
    }

    fn renew<'a>(&'a self, key: &'a Key, token: Token, lease: Duration) -> Answer<'a, Ownership> {
        Box::pin(Backend::renew(self, key, token, lease))
    }

    fn complete<'a>(
        &'a self,
        key: &'a Key,
        token: Token,
        record: &'a Record,
        retention: Duration,
    ) -> Answer<'a, Ownership> {
        Box::pin(Backend::complete(self, key, token, record, retention))
    }

    fn release<'a>(&'a self, key: &'a Key, token: Token) -> Answer<'a, ()> {
        Box::pin(Backend::release(self, key, token))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Entry>> {
        Box::pin(Backend::get(self, key))
    }

    fn remove<'a>(&'a self, key: &'a Key) -> Answer<'a, bool> {
        Box::pin(Backend::remove(self, key))
    }

    fn wait<'a>(&'a self, key: &'a Key, deadline: Instant) -> Answer<'a, Option<Entry>> {
        Box::pin(Backend::wait(self, key, deadline))
    }

    fn is_local(&self) -> bool {
        Backend::is_local(self)
    }
}

impl Backend for BoxBackend {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        self.0.claim(key, token, fingerprint, lease).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.0.renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.0.complete(key, token, record, retention).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.0.release(key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.0.get(key).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.0.remove(key).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        self.0.wait(key, deadline).await
    }

    fn is_local(&self) -> bool {
        self.0.is_local()
    }
}
