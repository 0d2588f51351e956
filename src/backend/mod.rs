//! The [`Backend`] trait and its laws.

mod boxed;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::boxed::BoxBackend;
#[cfg(feature = "memory")]
pub use self::memory::MemoryBackend;
#[cfg(feature = "redis")]
pub use self::redis::{RedisBackend, RedisConnection};
use crate::{BackendError, Fingerprint, Key, Record, Token};

/// A store of claims and records.
///
/// Under each key a backend keeps one of three values: nothing; a claim *in progress*, with its token and fingerprint,
/// until its deadline; or a *completed* record, with the token that completed it, until its expiry. Four commands
/// change it, each in one atomic step:
///
/// | command | absent or expired | in progress, own token | in progress, other token | completed, own token | completed, other token |
/// |---|---|---|---|---|---|
/// | [`claim`](Self::claim) | write it: `Acquired` | `Acquired`, deadline unchanged | `InProgress` | `Completed` | `Completed` |
/// | [`renew`](Self::renew) | `Lost` | `Held`, deadline = now + lease | `Lost` | `Lost` | `Lost` |
/// | [`complete`](Self::complete) | `Held`, store | `Held`, store | `Lost` | `Held`, nothing changes | `Lost` |
/// | [`release`](Self::release) | nothing | delete | nothing | nothing | nothing |
///
/// # Laws
///
/// 1. **Atomic**: each command is one indivisible step. Of any number of concurrent claims with different tokens on an
///    absent key, exactly one is `Acquired`.
/// 2. **Fenced**: `renew`, `complete` and `release` compare the token *inside* that step. A comparison made by the
///    client lets a stalled holder overwrite its successor.
/// 3. **Expiring**: past its deadline a claim is as good as absent, and past its expiry a record is. Neither lives
///    longer or shorter because somebody looked at it. Expiry must not depend on clean-up having run.
/// 4. **Final**: the bytes of a completed record never change until it expires or is removed.
/// 5. **Exact**: different keys never share a value, and a record comes back byte for byte.
/// 6. **Cancel safe**: a command's future may be dropped at any await. The command may or may not have been executed
///    then; nothing else may be left behind beyond the claim's own deadline.
/// 7. **Prompt for holders**: `renew`, `complete` and `release` do not queue behind claims. A crowd of duplicates must
///    not keep a holder from renewing its lease.
///
/// Backends compare tokens, never fingerprints: they keep a fingerprint and hand it back.
///
/// The suite in [`testing`](crate::testing) (feature `test-util`) checks them.
///
/// # Implementing
///
/// Write each method as an `async fn`. The futures must be `Send`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an idempotency backend",
    note = "implement `Backend`, or pass `MemoryBackend::new()`, `Arc<impl Backend>` or a `BoxBackend`"
)]
pub trait Backend: Send + Sync + 'static {
    /// Claims `key` for the holder of `token`, for the length of `lease`.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The claim may have been written all the same.
    fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> impl Future<Output = Result<Claim, BackendError>> + Send;

    /// Sets the deadline of the claim held by `token` to `lease` from now.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The deadline may have moved all the same.
    fn renew(
        &self,
        key: &Key,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Ownership, BackendError>> + Send;

    /// Stores `record` for the length of `retention` in place of the claim held by `token`.
    ///
    /// `Held` means that a record completed by `token` is stored now, also when an earlier sending of this command
    /// stored it.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The record may have been stored all the same, except after
    /// [`TooLarge`](crate::BackendErrorKind::TooLarge), which leaves the claim as it was.
    fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> impl Future<Output = Result<Ownership, BackendError>> + Send;

    /// Deletes the claim held by `token`, if it is still in progress.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The claim may be gone all the same.
    fn release(&self, key: &Key, token: Token) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// What is stored under `key` now. Changes nothing.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`].
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, BackendError>> + Send;

    /// Deletes whatever is stored under `key`, and says whether something was: an operator's undo.
    ///
    /// A run whose claim is removed has lost its lease; the next request with the key runs.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The value may be gone all the same.
    fn remove(&self, key: &Key) -> impl Future<Output = Result<bool, BackendError>> + Send;

    /// Waits until `key` is no longer in progress, or until `deadline`, and returns what is stored then.
    ///
    /// Changes nothing, and holds nothing that another caller could need. The default polls [`get`](Self::get) with a
    /// growing, jittered pause of 10 to 500 milliseconds; a backend that can notify should.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`].
    fn wait(&self, key: &Key, deadline: Instant) -> impl Future<Output = Result<Option<Entry>, BackendError>> + Send {
        async move {
            let mut pause = Duration::from_millis(10);
            loop {
                let entry = self.get(key).await?;
                let now = Instant::now();
                if !matches!(entry, Some(Entry::InProgress { .. })) || now >= deadline {
                    return Ok(entry);
                }
                let jittered = pause.mul_f64(rand::random_range(0.5..=1.0));
                tokio::time::sleep_until(deadline.min(now + jittered)).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        }
    }
}

/// The answer to [`Backend::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The key is claimed with the caller's token.
    Acquired,
    /// Another token holds the key.
    InProgress {
        /// The fingerprint that the holder claimed it with.
        fingerprint: Fingerprint,
    },
    /// A run has completed under this key.
    Completed(Record),
}

/// Whether the caller's token still owns the key: the answer to [`Backend::renew`] and [`Backend::complete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a holder that lost its lease must not act on it"]
pub enum Ownership {
    /// The command took effect.
    Held,
    /// The key is not, or no longer, the caller's; nothing was changed.
    Lost,
}

/// What is stored under a key: the answer to [`Backend::get`] and [`Backend::wait`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A run is in progress.
    InProgress {
        /// The fingerprint that the holder claimed the key with.
        fingerprint: Fingerprint,
    },
    /// A run has completed.
    Completed(Record),
}

impl<B: Backend> Backend for Arc<B> {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        B::claim(self, key, token, fingerprint, lease).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        B::renew(self, key, token, lease).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        B::complete(self, key, token, record, retention).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        B::release(self, key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        B::get(self, key).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        B::remove(self, key).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        B::wait(self, key, deadline).await
    }
}
