//! [`Deduplicator`]: runs by key for code that is not HTTP.

mod answer;
mod message;
mod settings;
mod story;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

pub use self::{
    answer::{Processed, RunError},
    message::Message,
};
use crate::{
    Backend, Run, Runs,
    future::Guarded,
    protocol::{Protocol, Terms},
};

/// Runs the handler of each message once, however often the message is delivered: for queue consumers, schedulers and
/// other code that is not HTTP.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use std::time::Duration;
/// use tower_idempotency::{Deduplicator, MemoryBackend};
///
/// # async fn example(message_id: &str, invoice: String) {
/// // Made once per process. It is cheap to clone, and its clones share their runs.
/// let deduplicator = Deduplicator::new(MemoryBackend::new())
///     .namespace("billing-consumer")
///     .retention(Duration::from_secs(7 * 24 * 60 * 60));
///
/// match deduplicator.run(message_id, async move { charge(&invoice).await }).await {
///     Ok(_processed) => { /* now or earlier: acknowledge the message */ }
///     Err(error) if error.is_retryable() => { /* leave it in the queue: it is delivered again */ }
///     Err(_error) => { /* put it aside for somebody to look at */ }
/// }
/// # }
///
/// async fn charge(invoice: &str) -> Result<String, std::io::Error> {
///     // What it returns is recorded, and what every duplicate gets.
///     Ok(format!("receipt for {invoice}"))
/// }
/// # }
/// ```
///
/// # What it promises
///
/// The first delivery of a message runs its handler; its value, any bytes, is recorded, and later deliveries get it
/// without a run. While one delivery runs, in any of the processes, others get [`RunError::InProgress`]. The lease is
/// renewed while the handler runs, up to [`max_run`](Self::max_run). If a handler returns an error or panics, its key
/// is released, unless it says otherwise ([`run_with`](Self::run_with)): the next delivery runs.
///
/// It does *not* promise that the effect of a message happens once: a process that is killed between an effect and its
/// record leaves the effect without a record, and once its [lease](Self::lease) is over the next delivery runs again.
/// Messages are processed at least once. To have one effect, put [`Run::key`] under a UNIQUE constraint in the
/// transaction that makes the effect, or [`Run::derive`] where consumers share a table; the example `queue_consumer`
/// shows messages that are delivered twice and a consumer that dies.
///
/// # Cancel safety
///
/// Dropping the future of a run before its claim was sent, or while it [waits](Self::wait), stops it. Otherwise the
/// handler continues in the tokio runtime, and its value is recorded: a consumer that stops, or a timeout around the
/// call, does not interrupt a handler between two effects. So a handler is `'static` and `Send`, like a spawned task.
/// If it panics then, its key stays blocked until the lease ends.
///
/// [`Runs::drain`] waits for such runs. A deduplicator needs a tokio runtime with its timer enabled.
#[must_use]
pub struct Deduplicator<B> {
    protocol: Arc<Protocol<B>>,
    namespace: String,
    wait: Option<Duration>,
}

impl<B: Backend> Deduplicator<B> {
    /// A deduplicator over `backend` with the default settings.
    pub fn new(backend: B) -> Self {
        let protocol = Arc::new(Protocol::new(Arc::new(backend), Terms::default()));
        Self { protocol, namespace: String::new(), wait: None }
    }

    /// Runs `handler`, unless it has run or is running for the same message: a key, or a [`Message`].
    ///
    /// The handler is polled once the key is claimed, and not at all if it is not.
    ///
    /// # Errors
    ///
    /// Any [`RunError`]: the handler's own error, or the reason why there is no result for the message yet.
    ///
    /// # Panics
    ///
    /// If the handler panics, with its panic. Its key is released.
    pub fn run<V, E, F>(&self, message: impl Into<Message>, handler: F) -> RunFuture<E>
    where
        V: AsRef<[u8]> + 'static,
        E: Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.run_with(message, |_| handler)
    }

    /// Like [`run`](Self::run), with a handler that gets its [`Run`]: a key for a UNIQUE constraint or for calls to
    /// other services, whether its lease is lost, and control over its key.
    ///
    /// ```
    /// # use tower_idempotency::{Backend, Deduplicator};
    /// # async fn example(deduplicator: Deduplicator<impl Backend>, message_id: &str) {
    /// let processed = deduplicator.run_with(message_id, |run| async move {
    ///     let letter = print().await?; // an error here gives the key back
    ///     run.keep(); // whatever happens from here on: not twice
    ///     post(letter).await
    /// });
    /// # processed.await.unwrap();
    /// # }
    /// # async fn print() -> Result<Vec<u8>, std::io::Error> { Ok(Vec::new()) }
    /// # async fn post(letter: Vec<u8>) -> Result<Vec<u8>, std::io::Error> { Ok(letter) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`run`](Self::run). After [`Run::keep`] an error or a panic of the handler is final: later deliveries get
    /// [`RunError::OutcomeUnknown`].
    ///
    /// # Panics
    ///
    /// If the handler panics, with its panic.
    pub fn run_with<V, E, H, F>(&self, message: impl Into<Message>, handler: H) -> RunFuture<E>
    where
        V: AsRef<[u8]> + 'static,
        E: Send + 'static,
        H: FnOnce(Run) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (protocol, wait) = (Arc::clone(&self.protocol), self.wait);
        let identity = message.into().identity(&self.namespace);
        RunFuture(Guarded::new(|client| story::process(protocol, identity, wait, handler, client)))
    }

    /// The live runs of this deduplicator and its clones, for a graceful shutdown.
    ///
    /// Call this on the finished deduplicator: changing a setting later creates one with separate live runs.
    #[must_use]
    pub fn runs(&self) -> Runs {
        Runs::new(Arc::clone(self.protocol.census()))
    }
}

/// The future of [`Deduplicator::run`]. Nothing happens before it is polled; see there what dropping it does.
#[must_use = "nothing runs before it is polled"]
pub struct RunFuture<E>(Guarded<Result<Processed, RunError<E>>>);

impl<E> Future for RunFuture<E> {
    type Output = Result<Processed, RunError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

impl<E> fmt::Debug for RunFuture<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunFuture").finish_non_exhaustive()
    }
}

// By hand: the backend need not be `Clone` or `Debug`.
impl<B> Clone for Deduplicator<B> {
    fn clone(&self) -> Self {
        Self { protocol: Arc::clone(&self.protocol), namespace: self.namespace.clone(), wait: self.wait }
    }
}

impl<B> fmt::Debug for Deduplicator<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicator").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
