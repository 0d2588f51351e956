//! [`Idempotency`]: the middleware service.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header, request::Parts};
use http_body::Body;
use tower_service::Service;

use crate::{
    Backend, RequestBody, ResponseBody, ResponseFuture, Run,
    body::BoxError,
    flow,
    future::Guarded,
    header_key::KeyText,
    identity::Identity,
    layer::Shared,
    rejection::{Dialect, Rejection},
};

/// Runs each request with an idempotency key once. Made by [`IdempotencyLayer`](crate::IdempotencyLayer).
///
/// See the [crate docs](crate) for an example.
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
        match self.shared.admit(&parts) {
            Admission::Bypass => {
                let request = Request::from_parts(parts, RequestBody::untouched(body));
                ResponseFuture::bypass(self.inner.call(request))
            }
            Admission::Guard(identity) => {
                let (shared, ready) = (Arc::clone(&self.shared), self.take_ready());
                ResponseFuture::guarded(Guarded::new(|client| async move {
                    let response = flow::guarded(Arc::clone(&shared), ready, identity, parts, body, client).await?;
                    Ok(shared.settings.word(response))
                }))
            }
            Admission::Reject(rejection) => {
                let dialect = Dialect::of(&parts.headers);
                drop(self.take_ready());
                ResponseFuture::rejected(self.shared.settings.word(rejection.response(dialect)))
            }
        }
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

/// What is to be done with a request.
enum Admission {
    Bypass,
    Guard(Identity),
    Reject(Rejection),
}

impl<B> Shared<B> {
    /// Takes no allocation, no lock and no backend call for a request that is bypassed.
    fn admit(&self, parts: &Parts) -> Admission {
        if !self.settings.covers(parts) {
            return Admission::Bypass;
        }
        match KeyText::of(&parts.headers) {
            Ok(None) if self.settings.require_key => Admission::Reject(Rejection::KeyMissing),
            Ok(None) => Admission::Bypass,
            Ok(Some(_)) if is_upgrade(parts) => Admission::Bypass,
            Ok(Some(text)) => self.identify(parts, text),
            Err(rejection) => Admission::Reject(rejection),
        }
    }

    fn identify(&self, parts: &Parts, text: KeyText) -> Admission {
        match self.settings.scope(parts) {
            Ok(scope) => {
                let identity = Identity { text, scope };
                let bypass = self.is_claimed_further_out(parts, &identity);
                if bypass { Admission::Bypass } else { Admission::Guard(identity) }
            }
            Err(rejection) => Admission::Reject(rejection),
        }
    }

    /// A layer that is applied twice would refuse its own request.
    fn is_claimed_further_out(&self, parts: &Parts, identity: &Identity) -> bool {
        parts.extensions.get::<Run>().is_some_and(|run| run.holds(&identity.key(&self.settings.namespace)))
    }
}

/// The connection is to become something that is neither recorded nor replayed. `h2c` is not such a request: clients
/// offer it with any request, and servers ignore it (RFC 9113, 3.1).
fn is_upgrade(parts: &Parts) -> bool {
    parts.headers.get(header::UPGRADE).is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"))
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
