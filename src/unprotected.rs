//! Runs without a claim, where the service would rather run twice than not at all.

use bytes::Bytes;
use http::{Request, Response, request};
use http_body::Body;
use tower_service::Service;

use crate::{BackendError, BackendErrorKind, Outcome, RequestBody, ResponseBody, body::Whole, layer::Settings, policy};

/// What becomes of a request with a key when the backend does not answer its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendFailure {
    /// It is refused with 503 and does not run.
    #[default]
    Refuse,
    /// It runs as if it had no key, and so do its duplicates: **it may run any number of times.** Its response is marked
    /// `idempotency-stored: false`, and the handler finds no [`Run`](crate::Run).
    ///
    /// What the backend holds but this version cannot read is still refused: somebody has the key.
    RunUnprotected,
}

impl Settings {
    /// Whether a request whose claim ended in `error` runs without one.
    pub(crate) fn runs_unprotected(&self, error: &BackendError) -> bool {
        self.backend_failure == BackendFailure::RunUnprotected && error.kind() != BackendErrorKind::Corrupt
    }
}

/// Runs a request that has no claim.
pub(crate) async fn unprotected<S, ReqBody, ResBody>(
    mut inner: S,
    mut parts: request::Parts,
    body: Whole,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    policy::strip_markers(&mut parts.headers);
    let mut response = inner.call(Request::from_parts(parts, RequestBody::whole(body))).await?;
    policy::strip_markers(response.headers_mut());
    policy::mark_not_stored(response.headers_mut());
    response.extensions_mut().insert(Outcome::NotStored);
    Ok(response.map(ResponseBody::untouched))
}
