//! [`IdempotencyLayer`]: the layer, and the builder of its settings.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, Method, request, response};
use tower_layer::Layer;

use crate::{
    Backend, BackendFailure, FingerprintPolicy, Idempotency, KeySource, OnDisconnect, RecordPolicy, Runs,
    answer::Wording,
    closure::Closure,
    protocol::{Lease, Protocol, Terms, Word},
    times,
    waiting::WaitingRoom,
};

/// Makes a service safe to retry: each request with an idempotency key runs once, and every duplicate gets the first
/// response.
///
/// Every setting has a default that can be left alone. A layer is cheap to clone; clones share their backend and their
/// live runs. Changing a setting makes a layer of its own over the same backend.
///
/// See the [crate docs](crate) for an example.
#[must_use]
pub struct IdempotencyLayer<B> {
    shared: Arc<Shared<B>>,
}

/// What all services made by a layer share.
pub(crate) struct Shared<B> {
    pub(crate) protocol: Arc<Protocol<B>>,
    pub(crate) settings: Settings,
    pub(crate) waiting_room: WaitingRoom,
}

/// A question about the head of a request.
type Predicate = dyn Fn(&request::Parts) -> bool + Send + Sync;
/// Who sent a request.
type Principal = dyn Fn(&request::Parts) -> Option<Vec<u8>> + Send + Sync;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: String,
    pub(crate) key: KeySource,
    pub(crate) require_key: bool,
    /// `None`: POST and PATCH.
    pub(crate) cover: Option<Closure<Predicate>>,
    pub(crate) scope: Option<Closure<Principal>>,
    pub(crate) fingerprint: FingerprintPolicy,
    pub(crate) backend_failure: BackendFailure,
    pub(crate) record: RecordPolicy,
    pub(crate) on_rejection: Option<Closure<Wording>>,
    /// In bytes.
    pub(crate) request_limit: usize,
    /// In bytes.
    pub(crate) response_limit: usize,
    /// How long a request waits for the one that it repeats.
    pub(crate) wait: Option<Duration>,
    pub(crate) on_disconnect: OnDisconnect,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            key: KeySource::default(),
            require_key: false,
            cover: None,
            scope: None,
            fingerprint: FingerprintPolicy::default(),
            backend_failure: BackendFailure::Refuse,
            record: RecordPolicy::default(),
            on_rejection: None,
            request_limit: 2 << 20,
            response_limit: 1 << 20,
            wait: None,
            on_disconnect: OnDisconnect::default(),
        }
    }
}

impl Settings {
    /// Whether a request with this head is guarded when it carries a key.
    pub(crate) fn covers(&self, parts: &request::Parts) -> bool {
        match &self.cover {
            None => matches!(parts.method, Method::POST | Method::PATCH),
            Some(predicate) => predicate(parts),
        }
    }
}

impl<B: Backend> Shared<B> {
    /// Whether a run counts as not having happened, now that its response is known to its end.
    pub(crate) fn releases_at_end(
        &self,
        lease: &Lease<B>,
        head: &response::Parts,
        trailers: Option<&HeaderMap>,
    ) -> bool {
        match lease.run().word() {
            Some(word) => word == Word::Release,
            None => !self.protocol.terms().at_most_once && self.settings.record.releases_at_end(head, trailers),
        }
    }
}

impl<B: Backend> IdempotencyLayer<B> {
    /// A layer over `backend` with the default settings: POST and PATCH requests that carry a key in the header
    /// `X-Idempotency-Key`, or in its standard twin `Idempotency-Key`, run once. Requests without a key pass.
    pub fn new(backend: B) -> Self {
        Self::assemble(Arc::new(backend), Terms::default(), Settings::default())
    }

    /// Separates this layer's keys from those of other services and consumers on the same backend. Default: empty.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        self.with(|settings, _| settings.namespace = namespace.into())
    }

    /// Answers 400 to a covered request without a key. Default: it passes unprotected.
    ///
    /// # Panics
    ///
    /// Together with a [`BodyHash`](crate::BodyHash), which is for requests without a key.
    #[track_caller]
    pub fn require_key(self) -> Self {
        self.with(|settings, _| settings.require_key = true)
    }

    /// How long a claim lives unless renewed: the time for which a crashed node blocks a key. Default: 30 seconds.
    ///
    /// Runs may take longer: their lease is renewed every third of it.
    ///
    /// # Panics
    ///
    /// When `lease` is shorter than 10 milliseconds, as it would be over before a handler could start, or longer than
    /// 100 years.
    #[track_caller]
    pub fn lease(self, lease: Duration) -> Self {
        let lease = times::lease(lease);
        self.with(|_, terms| terms.lease = lease)
    }

    /// How long a record lives, and with it the promise not to run its key again. Default: 24 hours.
    ///
    /// # Panics
    ///
    /// When `retention` is shorter than 10 milliseconds, as no retry would find a record, or longer than 100 years.
    #[track_caller]
    pub fn retention(self, retention: Duration) -> Self {
        let retention = times::retention(retention);
        self.with(|_, terms| terms.retention = retention)
    }

    /// How long a run is renewed. After that its lease ends, and the key may run again. Default: 1 hour.
    ///
    /// # Panics
    ///
    /// When `max_run` is zero, as no run could be renewed, or longer than 100 years.
    #[track_caller]
    pub fn max_run(self, max_run: Duration) -> Self {
        let max_run = times::max_run(max_run);
        self.with(|_, terms| terms.max_run = max_run)
    }

    /// How long a request waits for the backend in one step: for its claim, and for its record. Default: 1 second.
    ///
    /// # Panics
    ///
    /// When `timeout` is shorter than 1 millisecond, as no backend could answer, or longer than 100 years.
    #[track_caller]
    pub fn backend_timeout(self, timeout: Duration) -> Self {
        let timeout = times::backend_timeout(timeout);
        self.with(|_, terms| terms.backend_timeout = timeout)
    }

    /// Lets a request that repeats one in progress wait for its response, at most as long as `max`. Default: it gets 409
    /// at once, which many clients do not retry.
    ///
    /// When the first run gives its key back, one of those that wait runs, and the others wait for that one. Whose `max`
    /// is over gets 409, as does whoever comes while 1,024 requests of the layer wait: each keeps its body in memory,
    /// up to the [limit](Self::limits). Waiting takes no readiness of the inner service and nothing of the backend that
    /// others could need. A request that waits ends with its client.
    ///
    /// # Panics
    ///
    /// When `max` is shorter than 1 millisecond, as no run could end meanwhile, or longer than 100 years.
    #[track_caller]
    pub fn wait(self, max: Duration) -> Self {
        let max = times::wait(max);
        self.with(|settings, _| settings.wait = Some(max))
    }

    /// The largest request body that is read, and the largest response body that is recorded, in bytes. Default: 2 MiB
    /// and 1 MiB.
    ///
    /// A larger request with a key gets 413 and does not run. A larger response reaches its client whole; its
    /// duplicates get 409.
    pub fn limits(self, request: usize, response: usize) -> Self {
        self.with(|settings, _| (settings.request_limit, settings.response_limit) = (request, response))
    }

    /// Rather refuses a request than repeats it: everything is recorded, failures too, and a run that panics or whose
    /// node dies leaves its key refused until the retention is over. Default: off.
    ///
    /// # Panics
    ///
    /// Together with [`BackendFailure::RunUnprotected`] or a [`BodyHash`](crate::BodyHash), which may run a request any
    /// number of times.
    #[track_caller]
    pub fn at_most_once(self) -> Self {
        self.with(|_, terms| terms.at_most_once = true)
    }

    /// What becomes of a run whose client leaves before the handler has answered. Default: it goes on and is recorded.
    pub fn on_disconnect(self, on_disconnect: OnDisconnect) -> Self {
        self.with(|settings, _| settings.on_disconnect = on_disconnect)
    }

    /// The live runs of this layer, its clones and all services made by them, for a graceful shutdown.
    ///
    /// Ask the finished layer: a setting that is changed later makes a layer with live runs of its own.
    #[must_use]
    pub fn runs(&self) -> Runs {
        Runs::new(Arc::clone(self.shared.protocol.census()))
    }

    /// Live runs and leases are told apart by their terms, so other terms mean another protocol over the same backend.
    #[track_caller]
    pub(crate) fn with(self, change: impl FnOnce(&mut Settings, &mut Terms)) -> Self {
        let mut settings = self.shared.settings.clone();
        let mut terms = self.shared.protocol.terms().clone();
        change(&mut settings, &mut terms);
        assert!(
            !terms.at_most_once || settings.backend_failure == BackendFailure::Refuse,
            "at_most_once refuses what RunUnprotected would repeat: choose one"
        );
        if settings.key.body_hash.is_some() {
            assert!(!terms.at_most_once, "at_most_once refuses what a body hash would run unrecorded: choose one");
            assert!(!settings.require_key, "require_key refuses what a body hash would know: choose one");
        }
        Self::assemble(Arc::clone(self.shared.protocol.backend()), terms, settings)
    }

    fn assemble(backend: Arc<B>, terms: Terms, settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                protocol: Arc::new(Protocol::new(backend, terms)),
                settings,
                waiting_room: WaitingRoom::default(),
            }),
        }
    }
}

impl<S, B> Layer<S> for IdempotencyLayer<B> {
    type Service = Idempotency<S, B>;

    // Called once per route or even per connection: no state is made here.
    fn layer(&self, inner: S) -> Self::Service {
        Idempotency::new(inner, Arc::clone(&self.shared))
    }
}

// By hand: the backend need not be `Clone` or `Debug`.
impl<B> Clone for IdempotencyLayer<B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<B> fmt::Debug for IdempotencyLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}
