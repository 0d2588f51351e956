//! What operators see: a span and events (feature `tracing`), counters, gauges and histograms (feature `metrics`).
//!
//! The story calls one function at each point worth telling. They do nothing without the features. Nothing that a client
//! sent goes into either: a key is named by its `Debug`, a short hash, and not at all in a label.

#[cfg(feature = "metrics")]
mod figures;
mod hints;
mod outcome;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod request;

use std::future::Future;

use self::outcome::Ending;

#[cfg(feature = "tracing")]
pub(crate) use self::hints::Hints;
use crate::{BackendError, Key, Rejection, future::Client};

/// What a protocol serves: the label `kind`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Http,
    Message,
}

/// Tells operators of one layer or deduplicator.
#[derive(Debug)]
pub(crate) struct Observer {
    #[cfg(feature = "tracing")]
    namespace: Box<str>,
    #[cfg(feature = "metrics")]
    figures: figures::Figures,
}

#[cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, clippy::unused_self, reason = "without a feature nobody hears what it is told")
)]
impl Observer {
    pub(crate) fn new(kind: Kind, namespace: &str) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            namespace: namespace.into(),
            #[cfg(feature = "metrics")]
            figures: figures::Figures::new(kind, namespace),
        }
    }

    /// A request that has a key: `story` is the rest of its way.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pub(crate) fn request<'a, F>(&'a self, key: Key, client: &'a Client, story: F) -> request::Observed<'a, F>
    where
        F: Future<Output: Ending>,
    {
        request::Observed::new(self, key, client, story)
    }

    #[cfg(not(any(feature = "metrics", feature = "tracing")))]
    pub(crate) fn request<F: Future<Output: Ending>>(&self, key: Key, client: &Client, story: F) -> F {
        story
    }

    /// A layer is applied to a service.
    pub(crate) fn serves(&self) {
        #[cfg(feature = "metrics")]
        self.figures.serves();
    }

    /// A request is refused before its key is asked for.
    pub(crate) fn refused(&self, rejection: Rejection) -> Rejection {
        #[cfg(feature = "metrics")]
        self.figures.first_request();
        #[cfg(feature = "metrics")]
        self.figures.request(rejection.word());
        #[cfg(feature = "tracing")]
        tracing::debug!(namespace = &*self.namespace, outcome = rejection.word(), "request refused");
        rejection
    }

    /// The backend was asked for a key.
    pub(crate) fn claimed(&self, stopwatch: Stopwatch, key: &Key, failure: Option<&BackendError>) {
        #[cfg(feature = "metrics")]
        self.figures.claimed(stopwatch.elapsed());
        #[cfg(feature = "tracing")]
        if let Some(error) = failure {
            tracing::warn!(
                namespace = &*self.namespace,
                ?key,
                error = chain(error),
                "claim not answered by the backend"
            );
        }
    }

    /// A request waits for the run of another, for as long as what is returned lives.
    pub(crate) fn waits(&self) -> Waits<'_> {
        #[cfg(feature = "metrics")]
        self.figures.wait_begins();
        Waits { observer: self, since: Stopwatch::start() }
    }

    /// The backend has not told a request that waits of the end of the other.
    pub(crate) fn wait_failed(&self, key: &Key, error: &BackendError) {
        #[cfg(feature = "tracing")]
        tracing::warn!(namespace = &*self.namespace, ?key, error = chain(error), "wait not answered by the backend");
    }

    pub(crate) fn run_begins(&self) {
        #[cfg(feature = "metrics")]
        self.figures.run_begins();
    }

    pub(crate) fn run_ends(&self) {
        #[cfg(feature = "metrics")]
        self.figures.run_ends();
    }

    pub(crate) fn panicked(&self, key: &Key) {
        #[cfg(feature = "tracing")]
        tracing::warn!(namespace = &*self.namespace, ?key, "run panicked");
    }

    /// The backend was asked to store a record of `size` bytes.
    pub(crate) fn completed(&self, stopwatch: Stopwatch, size: usize) {
        #[cfg(feature = "metrics")]
        self.figures.completed(stopwatch.elapsed(), size);
    }

    /// The backend has not answered the end of a run in time.
    pub(crate) fn unanswered(&self, key: &Key, error: &BackendError) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            namespace = &*self.namespace,
            ?key,
            error = chain(error),
            "end of a run not answered by the backend"
        );
    }

    /// The end of a run is not sent any more.
    pub(crate) fn unsettled(&self, key: &Key) {
        #[cfg(feature = "tracing")]
        tracing::warn!(namespace = &*self.namespace, ?key, "end of a run given up: its key is left to its lease");
    }

    pub(crate) fn lease_lost(&self, key: &Key) {
        #[cfg(feature = "metrics")]
        self.figures.lease_lost();
        #[cfg(feature = "tracing")]
        tracing::warn!(namespace = &*self.namespace, ?key, "lease lost: the key may run again");
    }

    /// A request runs without a claim.
    pub(crate) fn unprotected(&self, key: &Key) {
        #[cfg(feature = "metrics")]
        self.figures.unprotected();
        #[cfg(feature = "tracing")]
        tracing::warn!(namespace = &*self.namespace, ?key, "request runs unprotected: its duplicates run as well");
    }
}

/// The form in which subscribers see the sources of an error as well.
#[cfg(feature = "tracing")]
fn chain(error: &BackendError) -> &(dyn std::error::Error + 'static) {
    error
}

/// Lets a task that is spawned for a request speak within its span.
#[cfg(feature = "tracing")]
pub(crate) fn in_span<F: Future>(task: F) -> tracing::instrument::Instrumented<F> {
    tracing::Instrument::in_current_span(task)
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn in_span<F: Future>(task: F) -> F {
    task
}

/// One request that waits.
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only figures need to know"))]
pub(crate) struct Waits<'a> {
    observer: &'a Observer,
    since: Stopwatch,
}

#[cfg(feature = "metrics")]
impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.observer.figures.wait_ends(self.since.elapsed());
    }
}

/// When something has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(#[cfg(feature = "metrics")] tokio::time::Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            tokio::time::Instant::now(),
        )
    }

    #[cfg(feature = "metrics")]
    fn elapsed(self) -> std::time::Duration {
        self.0.elapsed()
    }
}
