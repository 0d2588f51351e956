//! The [`Backend`] trait and its laws.

#[cfg(any(feature = "postgres", feature = "redis", all(test, idempotency_loom)))]
#[cfg_attr(idempotency_loom, allow(dead_code, reason = "only its tests use it then"))]
mod board;
mod boxed;
#[cfg(feature = "memory")]
mod cached;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod subscription;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod watch;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::boxed::BoxBackend;
#[cfg(feature = "postgres")]
pub use self::postgres::{CommitError, PostgresBackend};
#[cfg(feature = "redis")]
pub use self::redis::{RedisBackend, RedisConnection};
#[cfg(feature = "memory")]
pub use self::{cached::CachedBackend, memory::MemoryBackend};
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
/// 3. **Expiring**: a claim past its deadline counts as absent, and so does a record past its expiry. Neither lives
///    longer or shorter because somebody looked at it. Expiry must not depend on clean-up having run.
/// 4. **Final**: the bytes of a completed record never change until it expires or is removed.
/// 5. **Exact**: different keys never share a value, and a record comes back byte for byte.
/// 6. **Cancel safe**: a command's future may be dropped at any await. The command may or may not have been executed
///    then; nothing else may be left behind beyond the claim's own deadline.
/// 7. **Prompt for holders**: `renew`, `complete` and `release` do not queue behind claims. A crowd of duplicates must
///    not keep a holder from renewing its lease.
///
/// Backends compare tokens, never fingerprints: they store a fingerprint and return it.
///
/// # What is to be stored
///
/// A [`Key`] of 32 bytes, a [`Token`] of 16, a [`Fingerprint`] of 48, a [`Record`] as
/// [its bytes](Record::to_bytes): from 50 up to the [limit](crate::IdempotencyLayer::limits) of a response (1 MiB by
/// default) and its headers. Leases, retentions and windows are from 10 milliseconds to 100 years; fractions of a
/// millisecond may be rounded up.
///
/// # Implementing
///
/// Write each method as an `async fn`. The futures must be `Send`. The layer applies a
/// [timeout](crate::IdempotencyLayer::backend_timeout) to each command and sends it again, so a backend needs neither
/// timeouts nor retries of its own. The suite in module `testing` (feature `test-util`) checks the laws.
///
/// The following backend keeps the laws as long as its process lives; for real use it would have to free what has
/// expired. A [guide](crate#guides) shows a durable one.
///
/// ```
/// use std::{collections::HashMap, sync::Mutex, time::Duration};
/// use tokio::time::Instant;
/// use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};
///
/// /// Who put something under a key, what it is, and until when it lives.
/// type Slot = Option<(Token, Entry, Instant)>;
///
/// #[derive(Default)]
/// struct Simple(Mutex<HashMap<Key, Slot>>);
///
/// impl Simple {
///     /// Does one command in one atomic step, in which what has expired is gone.
///     fn step<T>(&self, key: &Key, command: impl FnOnce(&mut Slot) -> T) -> Result<T, BackendError> {
///         let mut slots = self.0.lock().map_err(|_| BackendError::unavailable("a command has panicked"))?;
///         let slot = slots.entry(*key).or_default();
///         slot.take_if(|(.., end)| *end <= Instant::now());
///         Ok(command(slot))
///     }
/// }
///
/// impl Backend for Simple {
///     async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
///         self.step(key, |slot| match slot {
///             Some((holder, Entry::InProgress { .. }, _)) if *holder == token => Claim::Acquired,
///             Some((_, Entry::InProgress { fingerprint }, _)) => Claim::InProgress { fingerprint: *fingerprint },
///             Some((_, Entry::Completed(record), _)) => Claim::Completed(record.clone()),
///             None => {
///                 *slot = Some((token, Entry::InProgress { fingerprint: *of }, Instant::now() + lease));
///                 Claim::Acquired
///             }
///         })
///     }
///
///     async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
///         self.step(key, |slot| match slot {
///             Some((holder, Entry::InProgress { .. }, end)) if *holder == token => {
///                 *end = Instant::now() + lease;
///                 Ownership::Held
///             }
///             _ => Ownership::Lost,
///         })
///     }
///
///     async fn complete(
///         &self,
///         key: &Key,
///         token: Token,
///         record: &Record,
///         retention: Duration,
///     ) -> Result<Ownership, BackendError> {
///         self.step(key, |slot| match slot {
///             Some((holder, ..)) if *holder != token => Ownership::Lost,
///             Some((_, Entry::Completed(_), _)) => Ownership::Held,
///             _ => {
///                 *slot = Some((token, Entry::Completed(record.clone()), Instant::now() + retention));
///                 Ownership::Held
///             }
///         })
///     }
///
///     async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
///         self.step(key, |slot| {
///             slot.take_if(|(holder, entry, _)| *holder == token && matches!(entry, Entry::InProgress { .. }));
///         })
///     }
///
///     async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
///         self.step(key, |slot| slot.as_ref().map(|(_, entry, _)| entry.clone()))
///     }
///
///     async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
///         self.step(key, |slot| slot.take().is_some())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// # #[cfg(feature = "test-util")] // with the feature `test-util`, in a test:
/// tower_idempotency::testing::conformance(|| async { Simple::default() }).await;
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an idempotency backend",
    note = "implement `Backend`, or pass `MemoryBackend::new()`, `Arc<impl Backend>` or a `BoxBackend`"
)]
pub trait Backend: Send + Sync + 'static {
    /// Claims `key` for the holder of `token`, for the duration of `lease`, or returns what is stored in its place.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The claim may have been written nevertheless.
    fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> impl Future<Output = Result<Claim, BackendError>> + Send;

    /// Sets the deadline of the claim held by `token` to `lease` from now. With
    /// [`at_most_once`](crate::IdempotencyLayer::at_most_once) that is the retention.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The deadline may have moved nevertheless.
    fn renew(
        &self,
        key: &Key,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Ownership, BackendError>> + Send;

    /// Stores `record` for the duration of `retention` in place of the claim held by `token`.
    ///
    /// `Held` means that a record completed by `token` is stored now, even if an earlier attempt of this command stored
    /// it: a token completes with one record, however often the command is sent. It also succeeds on an absent key, as
    /// the claim may have expired without a successor.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The record may have been stored nevertheless, except after
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
    /// Any [`BackendError`]. The claim may have been deleted nevertheless.
    fn release(&self, key: &Key, token: Token) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// What is stored under `key` now, if it has not expired. Changes nothing.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`].
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, BackendError>> + Send;

    /// Deletes whatever is stored under `key`, and returns whether there was anything. This is meant for operators.
    ///
    /// The next request with the key runs. A run whose claim is removed is not stopped: it learns that when it renews
    /// its lease. If it ends before that, and nobody has claimed the key, it still completes.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The value may have been deleted nevertheless.
    fn remove(&self, key: &Key) -> impl Future<Output = Result<bool, BackendError>> + Send;

    /// Whether this backend stores its data in the memory of this process, so that commands are cheap.
    ///
    /// With any other backend, requests with the same key that meet in one process share a claim: while one of them
    /// asks, the others wait for its answer, and while a run of this process holds the key, they learn that without a
    /// command. If a claim is [removed](Self::remove), its holder notices at the next renewal.
    ///
    /// Default: `false`. A backend that wraps another one should forward the call. The result must never change.
    fn is_local(&self) -> bool {
        false
    }

    /// Waits until `key` is no longer in progress, or until `deadline` (on tokio's clock), and returns what is stored
    /// then.
    ///
    /// Changes nothing, and holds no resources that other callers need. The default polls [`get`](Self::get) with a
    /// growing, jittered pause of 10 to 500 milliseconds; a backend that can send notifications should override it.
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

/// The answer to [`Backend::claim`]: whether the caller may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The key is claimed with the caller's token, by this command or an earlier attempt of it.
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

    fn is_local(&self) -> bool {
        B::is_local(self)
    }
}
