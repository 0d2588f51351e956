//! The settings of [`IdempotencyLayer`] that say which requests are guarded, and how; the lengths and limits are in
//! `layer.rs`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, request};

use crate::{
    Backend, BackendFailure, BodyHash, FingerprintPolicy, IdempotencyLayer, KeySource, RecordPolicy, Rejection,
    closure::Closure,
};

impl<B: Backend> IdempotencyLayer<B> {
    /// Where a request carries its key: a [`KeySource`], or a [`BodyHash`] alone. Default: the header
    /// `X-Idempotency-Key` or `Idempotency-Key`.
    ///
    /// With a source that looks into the body, the layer reads every covered request, up to its [limit](Self::limits),
    /// unless an earlier source has found a key in the headers.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use tower_idempotency::{IdempotencyLayer, KeySource, MemoryBackend};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new()).key(KeySource::header("webhook-id"));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `source` is or contains a [`BodyHash`] and [`require_key`](Self::require_key) or
    /// [`at_most_once`](Self::at_most_once) is set.
    #[track_caller]
    pub fn key(self, source: impl Into<KeySource>) -> Self {
        self.with(|settings, _| {
            let earlier = settings.key.body_hash.take();
            settings.key = source.into();
            settings.key.body_hash = settings.key.body_hash.take().or(earlier);
        })
    }

    /// Identifies a request without a key by its body: see [`BodyHash`]. Default: off, such a request passes
    /// unprotected.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use std::time::Duration;
    /// use tower_idempotency::{BodyHash, IdempotencyLayer, MemoryBackend};
    ///
    /// // A double click on "pay" pays once.
    /// let layer = IdempotencyLayer::new(MemoryBackend::new())
    ///     .or_body_hash(BodyHash::per_caller(Duration::from_secs(10)));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If [`require_key`](Self::require_key) or [`at_most_once`](Self::at_most_once) is set.
    #[track_caller]
    pub fn or_body_hash(self, hash: BodyHash) -> Self {
        self.with(|settings, _| settings.key.body_hash = Some(hash))
    }

    /// Which requests with a key are protected: those for whose head `predicate` returns true. Default: POST and PATCH,
    /// as the other common methods are idempotent by themselves (RFC 9110, section 9.2.2; RFC 5789, section 2).
    ///
    /// It decides alone: a predicate that looks only at the path covers GET requests, too. All other requests pass as
    /// if there were no layer.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use http::Method;
    /// use tower_idempotency::{IdempotencyLayer, MemoryBackend};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new())
    ///     .cover(|parts| parts.method == Method::POST && !parts.uri.path().starts_with("/live/"));
    /// # }
    /// ```
    pub fn cover(self, predicate: impl Fn(&request::Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings, _| settings.cover = Some(Closure(Arc::new(predicate))))
    }

    /// The principal of a request: the user, tenant or account that sent it. Default: none.
    ///
    /// Each principal has its own key space, so that equal keys of two principals do not collide. The principal takes
    /// the place of the `Authorization` header in the fingerprint, so that a retry with a new token is the same
    /// request.
    ///
    /// Derive it from what authentication has verified, such as an extension that an outer layer sets. A request with a
    /// key for which `principal` returns `None` or an empty value gets 401, [`Rejection::ScopeMissing`], and does not
    /// run. A request without a key needs no principal.
    ///
    /// If you set a scope later, or a principal gets another name, earlier records are no longer found.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use tower_idempotency::{IdempotencyLayer, MemoryBackend};
    ///
    /// #[derive(Clone)]
    /// struct Account(String); // set by the authentication
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new())
    ///     .scope(|parts| parts.extensions.get::<Account>().map(|account| account.0.clone()));
    /// # }
    /// ```
    pub fn scope<S: AsRef<[u8]>>(
        self,
        principal: impl Fn(&request::Parts) -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        let principal = move |parts: &request::Parts| principal(parts).map(|scope| scope.as_ref().to_vec());
        self.with(|settings, _| settings.scope = Some(Closure(Arc::new(principal))))
    }

    /// What happens to a request with a key when the backend does not answer. Default: [`BackendFailure::Refuse`].
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use tower_idempotency::{BackendFailure, IdempotencyLayer, MemoryBackend};
    ///
    /// // For effects that may happen twice but must not fail to happen.
    /// let layer = IdempotencyLayer::new(MemoryBackend::new()).on_backend_failure(BackendFailure::RunUnprotected);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If [`at_most_once`](Self::at_most_once) is set and `failure` is [`BackendFailure::RunUnprotected`].
    #[track_caller]
    pub fn on_backend_failure(self, failure: BackendFailure) -> Self {
        self.with(|settings, _| settings.backend_failure = failure)
    }

    /// Which responses are recorded, and which of their headers. Default: see [`RecordPolicy`].
    ///
    /// With [`at_most_once`](Self::at_most_once) every response is recorded, whatever the policy.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use tower_idempotency::{IdempotencyLayer, MemoryBackend, RecordPolicy};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new()).record(RecordPolicy::everything());
    /// # }
    /// ```
    pub fn record(self, policy: RecordPolicy) -> Self {
        self.with(|settings, _| settings.record = policy)
    }

    /// Changes the layer's own responses: `wording` gets the response that would be sent, and returns the one to send.
    /// Default: it is sent unchanged.
    ///
    /// The extensions of the response always contain the [`Rejection`] and the [`Outcome`](crate::Outcome). Responses
    /// to gRPC requests go through `wording` as well: they have no body, and a `grpc-status` among their headers.
    /// Replays do not: they are the response of the handler.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use bytes::Bytes;
    /// use http::{HeaderValue, Response, header};
    /// use tower_idempotency::{IdempotencyLayer, MemoryBackend, Rejection};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new()).on_rejection(|rejection, mut answer| match rejection {
    ///     // Webhooks: whoever sends this once more need not know that the response was too large to keep.
    ///     Rejection::NotKept => Response::new(Bytes::from_static(b"already processed")),
    ///     _ => {
    ///         let docs = HeaderValue::from_static("<https://example.com/retries>; rel=\"describedby\"");
    ///         answer.headers_mut().insert(header::LINK, docs);
    ///         answer
    ///     }
    /// });
    /// # }
    /// ```
    pub fn on_rejection(
        self,
        wording: impl Fn(Rejection, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings, _| settings.on_rejection = Some(Closure(Arc::new(wording))))
    }

    /// What makes two requests with the same key the same request. Default: see [`FingerprintPolicy`].
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use tower_idempotency::{FingerprintPolicy, IdempotencyLayer, MemoryBackend};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new())
    ///     .fingerprint(FingerprintPolicy::default().header("api-version"));
    /// # }
    /// ```
    pub fn fingerprint(self, policy: FingerprintPolicy) -> Self {
        self.with(|settings, _| settings.fingerprint = policy)
    }
}
