//! [`Idempotency`]: the middleware service.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::{
    Backend, RequestBody, ResponseBody, ResponseFuture, admission::Admission, error::BoxError, flow, future::Guarded,
    layer::Shared, rejection::Dialect,
};

/// Runs each request with an idempotency key once. Made by [`IdempotencyLayer`](crate::IdempotencyLayer).
///
/// See the [crate docs](crate#example) for an example.
///
/// The inner service has to be `Clone + Send + 'static`, take a [`RequestBody`] and return a body of [`Bytes`]; its
/// future has to be `Send`. Its error is the error of this service, whose own failures are responses. This service is
/// ready when the inner one is. A guarded request keeps that readiness while it is read and claimed, and gives it back
/// when it does not run, or while it waits for another.
pub struct Idempotency<S, B> {
    inner: S,
    shared: Arc<Shared<B>>,
}

impl<S, B> Idempotency<S, B> {
    pub(crate) fn new(inner: S, shared: Arc<Shared<B>>) -> Self {
        Self { inner, shared }
    }
}

impl<S, B, ReqBody, ResBody> Service<Request<ReqBody>> for Idempotency<S, B>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Backend,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ReqBody::Error: Send,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let admission = match self.shared.settings.admit(&parts, None) {
            Admission::Bypass => {
                let request = Request::from_parts(parts, RequestBody::untouched(body));
                return ResponseFuture::bypass(self.inner.call(request));
            }
            Admission::Reject(rejection) => {
                let dialect = Dialect::of(&parts.headers);
                drop(self.take_ready());
                let rejection = self.shared.protocol.observer().refused(rejection);
                return ResponseFuture::rejected(self.shared.settings.worded(rejection.response(dialect)));
            }
            admission => admission,
        };
        let (shared, ready) = (Arc::clone(&self.shared), self.take_ready());
        ResponseFuture::guarded(Guarded::new(|client| flow::guarded(shared, ready, admission, parts, body, client)))
    }
}

impl<S: Clone, B> Idempotency<S, B> {
    /// The inner service that was made ready. It has to be the one that is called, or dropped, which gives its
    /// readiness back: <https://docs.rs/tower/latest/tower/trait.Service.html#be-careful-when-cloning-inner-services>
    fn take_ready(&mut self) -> S {
        let not_ready = self.inner.clone();
        mem::replace(&mut self.inner, not_ready)
    }
}

// By hand: the backend need not be `Clone` or `Debug`.
impl<S: Clone, B> Clone for Idempotency<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug, B> fmt::Debug for Idempotency<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("inner", &self.inner)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
