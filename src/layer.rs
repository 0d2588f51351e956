//! [`IdempotencyLayer`]: the layer, and the builder of its settings.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use crate::{
    Backend, BackendFailure, Idempotency, OnDisconnect, Runs,
    observe::{Kind, Observer},
    protocol::{Protocol, Terms},
    settings::Settings,
    times,
    waiting::WaitingRoom,
};

/// Makes a service safe to retry: each request with an idempotency key runs once, and every duplicate gets the first
/// response.
///
/// Every setting has a default. A layer is cheap to clone; clones share their backend and their live runs. Changing a
/// setting creates a separate layer over the same backend.
///
/// # Examples
///
/// The [crate docs](crate#example) show the layer with its defaults, and [among other
/// layers](crate#where-to-put-the-layer). With settings, around a service without axum:
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::{convert::Infallible, time::Duration};
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_idempotency::{IdempotencyLayer, MemoryBackend, Rejection, RequestBody};
///
/// let layer = IdempotencyLayer::new(MemoryBackend::new())
///     .namespace("payments")
///     .require_key()
///     .retention(Duration::from_secs(7 * 24 * 60 * 60))
///     .wait(Duration::from_secs(10))
///     .limits(64 << 10, 256 << 10);
/// let pay = service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
///     Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("paid")))
/// });
/// let service = layer.layer(pay);
///
/// let response = service.oneshot(Request::post("/payments").body(Full::default()).unwrap()).await.unwrap();
/// assert_eq!(response.status(), StatusCode::BAD_REQUEST);
/// assert_eq!(response.extensions().get(), Some(&Rejection::KeyMissing));
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[must_use]
pub struct IdempotencyLayer<B> {
    shared: Arc<Shared<B>>,
}

/// What all services made by a layer share.
pub(crate) struct Shared<B> {
    pub(crate) protocol: Arc<Protocol<B>>,
    /// Shared with the runs.
    pub(crate) settings: Arc<Settings>,
    pub(crate) waiting_room: WaitingRoom,
}

impl<B: Backend> IdempotencyLayer<B> {
    /// A layer over `backend` with the default settings: POST and PATCH requests that carry a key in the header
    /// `X-Idempotency-Key`, or in `Idempotency-Key`, the name in the IETF draft, run once. Requests without a key pass.
    ///
    /// Several layers may share one backend: pass an [`Arc`] of it, or a clone.
    pub fn new(backend: B) -> Self {
        Self::assemble(Arc::new(backend), Terms::default(), Settings::default())
    }

    /// Separates this layer's keys from those of other services and consumers on the same backend. Default: empty.
    ///
    /// Any text is allowed. If you change it, earlier records are no longer found. Of two layers around one handler [only
    /// one](crate#where-to-put-the-layer) guards a request unless their namespaces differ.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        self.with(|settings, _| settings.namespace = namespace.into())
    }

    /// Answers a covered request without a key with 400, [`Rejection::KeyMissing`](crate::Rejection::KeyMissing).
    /// Default: it passes unprotected.
    ///
    /// # Panics
    ///
    /// Together with a [`BodyHash`](crate::BodyHash), which identifies requests without a key.
    #[track_caller]
    pub fn require_key(self) -> Self {
        self.with(|settings, _| settings.require_key = true)
    }

    /// How long a claim lives unless renewed: the time for which a crashed node blocks a key. Default: 30 seconds.
    ///
    /// Runs may take longer: their lease is renewed after each third of its length. A node whose renewals have not been
    /// answered for nine tenths of the lease, by its own clock, considers it lost: see
    /// [`Run::lease_lost`](crate::Run::lease_lost).
    ///
    /// # Panics
    ///
    /// If `lease` is shorter than 10 milliseconds, as it would be over before a handler could start, or longer than 100
    /// years.
    #[track_caller]
    pub fn lease(self, lease: Duration) -> Self {
        let lease = times::lease(lease);
        self.with(|_, terms| terms.lease = lease)
    }

    /// How long a record lives from the end of its run, and with it the promise not to run its key again. Default: 24
    /// hours.
    ///
    /// It should outlast the last retry of every client.
    ///
    /// # Panics
    ///
    /// If `retention` is shorter than 10 milliseconds, as no retry would find a record, or longer than 100 years.
    #[track_caller]
    pub fn retention(self, retention: Duration) -> Self {
        let retention = times::retention(retention);
        self.with(|_, terms| terms.retention = retention)
    }

    /// How long a run can renew its lease. After that the lease ends, and the key may run again. Default: 1 hour.
    ///
    /// The handler is not stopped. A response of unknown length is recorded for the same time, counted from its head;
    /// if it takes longer, it is still sent, but not kept.
    ///
    /// # Panics
    ///
    /// If `max_run` is zero, as no run could be renewed, or longer than 100 years.
    #[track_caller]
    pub fn max_run(self, max_run: Duration) -> Self {
        let max_run = times::max_run(max_run);
        self.with(|_, terms| terms.max_run = max_run)
    }

    /// How long a request waits for the backend in one step: for its claim, and for its record. Default: 1 second.
    ///
    /// Within this time a command is sent up to three times, each for at most half of it. After that, the layer
    /// continues to store the record, or to withdraw the claim, in the background.
    ///
    /// # Panics
    ///
    /// If `timeout` is shorter than 1 millisecond, as no backend could answer, or longer than 100 years.
    #[track_caller]
    pub fn backend_timeout(self, timeout: Duration) -> Self {
        let timeout = times::backend_timeout(timeout);
        self.with(|_, terms| terms.backend_timeout = timeout)
    }

    /// Lets a request that repeats one in progress wait for its response, for at most `max`. Default: it gets 409 at
    /// once, which many clients do not retry.
    ///
    /// If the first run releases its key, one of the waiting requests runs, and the others wait for that one. A request
    /// gets 409 when its `max` is over, or if 1,024 requests of the layer are already waiting: each keeps its body in
    /// memory, up to the [limit](Self::limits). Waiting occupies neither the inner service nor backend resources that
    /// others need. A waiting request ends when its client disconnects.
    ///
    /// Requests that are identified by a [`BodyHash`](crate::BodyHash) always wait, by default for 30 seconds.
    ///
    /// # Panics
    ///
    /// If `max` is shorter than 1 millisecond, as no run could end in that time, or longer than 100 years.
    #[track_caller]
    pub fn wait(self, max: Duration) -> Self {
        let max = times::wait(max);
        self.with(|settings, _| settings.wait = Some(max))
    }

    /// The largest request body that is read, and the largest response body that is recorded, in bytes. Default: 2 MiB
    /// and 1 MiB.
    ///
    /// A larger request gets 413 and does not run; if its `Content-Length` is too large, its body is not even read.
    /// This applies to requests with a key, and, if keys are looked for in bodies, to every covered request. A larger
    /// response reaches its client completely; its duplicates get 409,
    /// [`Rejection::NotKept`](crate::Rejection::NotKept). Headers do not count.
    ///
    /// A response of unknown length is held in memory up to its limit if its client does not read it.
    pub fn limits(self, request: usize, response: usize) -> Self {
        self.with(|settings, _| (settings.request_limit, settings.response_limit) = (request, response))
    }

    /// Refuses a request rather than repeating it: everything is recorded, including failures, and after a run that
    /// panics or whose node dies, its key is refused until the retention is over. Default: off.
    ///
    /// Before the handler is called, its claim is extended from the lease to the retention, which takes one more
    /// command for each run. Duplicates of a run that failed without a response get 409,
    /// [`Rejection::OutcomeUnknown`](crate::Rejection::OutcomeUnknown); of one whose node died,
    /// [`Rejection::InProgress`](crate::Rejection::InProgress), since nobody can tell it from a slow one. An operator
    /// can remove such a key with [`Backend::remove`]. A handler that has done nothing can still
    /// [`release`](crate::Run::release) its key.
    ///
    /// # Panics
    ///
    /// Together with [`BackendFailure::RunUnprotected`] or a [`BodyHash`](crate::BodyHash), which may run a request any
    /// number of times.
    #[track_caller]
    pub fn at_most_once(self) -> Self {
        self.with(|_, terms| terms.at_most_once = true)
    }

    /// What happens to a run whose client disconnects before the handler has responded. Default:
    /// [`OnDisconnect::Finish`].
    pub fn on_disconnect(self, on_disconnect: OnDisconnect) -> Self {
        self.with(|settings, _| settings.on_disconnect = on_disconnect)
    }

    /// The live runs of this layer, its clones and all services created by them: see [`Runs`] for a graceful shutdown.
    ///
    /// Call this on the finished layer: changing a setting later creates a layer with separate live runs.
    #[must_use]
    pub fn runs(&self) -> Runs {
        Runs::new(Arc::clone(self.shared.protocol.census()))
    }

    /// How many keys this process is busy with, in front of a backend that is not local.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    #[must_use]
    pub fn busy_keys(&self) -> usize {
        self.shared.protocol.busy_keys()
    }

    /// Runs and leases depend on the terms, so other terms mean another protocol over the same backend.
    #[track_caller]
    pub(crate) fn with(self, change: impl FnOnce(&mut Settings, &mut Terms)) -> Self {
        let mut settings = Settings::clone(&self.shared.settings);
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
        let observer = Observer::new(Kind::Http, &settings.namespace);
        Self {
            shared: Arc::new(Shared {
                protocol: Arc::new(Protocol::observed(backend, terms, observer)),
                settings: Arc::new(settings),
                waiting_room: WaitingRoom::default(),
            }),
        }
    }
}

impl<S, B> Layer<S> for IdempotencyLayer<B> {
    type Service = Idempotency<S, B>;

    // Called once per route or even per connection: no state is made here.
    fn layer(&self, inner: S) -> Self::Service {
        // Not earlier: while settings are changed, each makes another layer, which nobody uses.
        self.shared.protocol.observer().serves();
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
