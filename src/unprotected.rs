//! Runs without a claim, where the service would rather run twice than not at all.

use std::future::poll_fn;

use bytes::Bytes;
use http::{Request, Response, request};
use http_body::Body;
use tower_service::Service;

use crate::{
    BackendError, BackendErrorKind, Outcome, RequestBody, ResponseBody, identity::Identity, markers,
    settings::Settings, whole::Whole,
};

/// What happens to a request with a key when the backend does not answer its claim.
///
/// ```
/// # #[cfg(all(feature = "memory", feature = "test-util"))]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use axum::{Router, body::Body, http::{Request, StatusCode}, routing::post};
/// use tower::ServiceExt;
/// use tower_idempotency::{BackendErrorKind, BackendFailure, IdempotencyLayer, MemoryBackend};
/// use tower_idempotency::testing::{Command, Fault, FaultyBackend};
///
/// let backend = FaultyBackend::new(MemoryBackend::new());
/// backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
/// for (failure, status) in [
///     (BackendFailure::Refuse, StatusCode::SERVICE_UNAVAILABLE),
///     (BackendFailure::RunUnprotected, StatusCode::CREATED),
/// ] {
///     let layer = IdempotencyLayer::new(backend.clone()).on_backend_failure(failure);
///     let app: Router = Router::new().route("/payments", post(|| async { StatusCode::CREATED })).layer(layer);
///     let order = Request::post("/payments").header("Idempotency-Key", "k-1").body(Body::empty()).unwrap();
///     assert_eq!(app.oneshot(order).await.unwrap().status(), status);
/// }
/// # }
/// # #[cfg(not(all(feature = "memory", feature = "test-util")))] fn main() {}
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendFailure {
    /// It is refused with 503 and does not run.
    #[default]
    Refuse,
    /// It runs as if it had no key, and so do its duplicates: **it may run any number of times.** Its response is
    /// marked `idempotency-stored: false`, and the handler gets no [`Run`](crate::Run).
    ///
    /// If the backend holds a value that this version cannot read, the request is still refused, as the key is in use.
    RunUnprotected,
}

impl Settings {
    /// Whether a request whose claim ended in `error` runs without one.
    pub(crate) fn runs_unprotected(&self, identity: &Identity, error: &BackendError) -> bool {
        let wanted = identity.window.is_some() || self.backend_failure == BackendFailure::RunUnprotected;
        wanted && error.kind() != BackendErrorKind::Corrupt
    }
}

/// Runs a request without a claim, and says so.
pub(crate) async fn unprotected<S, ReqBody, ResBody>(
    inner: &mut S,
    mut parts: request::Parts,
    body: Whole,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes>,
{
    // After a wait that failed it is not ready: it was given back for the wait.
    poll_fn(|cx| inner.poll_ready(cx)).await?;
    markers::strip(&mut parts.headers);
    let mut response = pass(inner, parts, RequestBody::whole(body)).await?;
    markers::strip(response.headers_mut());
    markers::mark_not_stored(response.headers_mut());
    response.extensions_mut().insert(Outcome::NotStored);
    Ok(response)
}

/// Passes on a request that turned out to have no key, once its body has been read.
pub(crate) async fn pass<S, ReqBody, ResBody>(
    inner: &mut S,
    parts: request::Parts,
    body: RequestBody<ReqBody>,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes>,
{
    let response = inner.call(Request::from_parts(parts, body)).await?;
    Ok(response.map(ResponseBody::untouched))
}
