//! [`Rejection`]: the layer's own answers, as problem documents.

mod problem;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{Outcome, ResponseBody, grpc, whole::Whole};

/// Why the layer responded to a request itself: an extension of that response.
///
/// Each is a problem document (RFC 9457), `application/problem+json`, with the members `type` (the address of the
/// variant on this page), `title`, `status`, `detail` and `retryable`. To a request whose `Content-Type` is
/// `application/grpc` it is a trailers-only response, with HTTP status 200 and the `grpc-status` named below. None
/// contains anything of the key or the request. [`on_rejection`](crate::IdempotencyLayer::on_rejection) can change
/// them.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use axum::{Router, body::{Body, to_bytes}, http::{Request, StatusCode}, routing::post};
/// use tower::ServiceExt;
/// use tower_idempotency::{IdempotencyLayer, MemoryBackend, Rejection};
///
/// let layer = IdempotencyLayer::new(MemoryBackend::new()).require_key();
/// let app: Router = Router::new().route("/payments", post(|| async {})).layer(layer);
/// let response = app.oneshot(Request::post("/payments").body(Body::empty()).unwrap()).await.unwrap();
///
/// let rejection = *response.extensions().get::<Rejection>().unwrap();
/// assert_eq!(rejection, Rejection::KeyMissing);
/// assert_eq!((rejection.status(), rejection.is_retryable()), (StatusCode::BAD_REQUEST, false));
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// let document = to_bytes(response.into_body(), 1024).await.unwrap();
/// let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
/// assert_eq!(document["title"], "Idempotency key is missing");
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// 400, `INVALID_ARGUMENT`: this operation requires a key, and the request has none.
    KeyMissing,
    /// 400, `INVALID_ARGUMENT`: the key is not 1 to 255 visible ASCII characters, bare or as a String of RFC 8941.
    KeyInvalid,
    /// 400, `INVALID_ARGUMENT`: the request has more than one key, or one in several lines.
    KeyAmbiguous,
    /// 401, `UNAUTHENTICATED`: the service has a key space for each principal, and the request has no principal.
    ScopeMissing,
    /// 400, `INVALID_ARGUMENT`: the request's body ended with an error.
    BodyUnreadable,
    /// 408, `DEADLINE_EXCEEDED`: the request's body did not arrive within 30 seconds.
    BodyTimedOut,
    /// 413, `RESOURCE_EXHAUSTED`: the request's body is larger than the [limit](crate::IdempotencyLayer::limits).
    BodyTooLarge,
    /// 409, `ABORTED`, with `Retry-After: 1`: the first request with this key is still running.
    InProgress,
    /// 409, `ALREADY_EXISTS`: the first request with this key has been executed, but its response was not kept.
    NotKept,
    /// 409, `ALREADY_EXISTS`: the first request with this key may have been executed, and must not be repeated.
    OutcomeUnknown,
    /// 422, `FAILED_PRECONDITION`: the key was used for a different request.
    Mismatch,
    /// 422, `FAILED_PRECONDITION`: the key was used for the same request with other credentials.
    CredentialsDiffer,
    /// 503, `UNAVAILABLE`, with `Retry-After: 1`: the backend cannot say whether the request has been executed, so it
    /// is not. The extensions of the response contain the cause, if there is one, as an
    /// <code>[Arc](std::sync::Arc)<[BackendError](crate::BackendError)></code>.
    BackendUnavailable,
}

/// The language that a client expects its answer in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Http,
    Grpc,
}

impl Dialect {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        if grpc::is_grpc(request) { Self::Grpc } else { Self::Http }
    }
}

impl Rejection {
    /// The HTTP status of the answer. To a gRPC request it is sent with 200.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.problem().status
    }

    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        self.problem().retryable
    }

    /// The answer in the language of the request: a problem document, or a response of trailers only.
    pub(crate) fn response<B>(self, dialect: Dialect) -> Response<ResponseBody<B>> {
        let mut response = match dialect {
            Dialect::Http => self.problem_document(),
            Dialect::Grpc => self.trailers_only(),
        };
        response.extensions_mut().insert(self);
        response.extensions_mut().insert(Outcome::of(self));
        response
    }

    fn problem_document<B>(self) -> Response<ResponseBody<B>> {
        let problem = self.problem();
        let mut response =
            Response::new(ResponseBody::whole(Whole::new(Bytes::from_static(problem.document.as_bytes()), None)));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(self, Self::InProgress | Self::BackendUnavailable) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// gRPC clients read nothing but trailers, which stand in the head where there is no message.
    fn trailers_only<B>(self) -> Response<ResponseBody<B>> {
        let problem = self.problem();
        let mut response = Response::new(ResponseBody::whole(Whole::default()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(problem.grpc));
        headers.insert("grpc-message", HeaderValue::from_static(problem.detail));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_is_retryable() {
        use Rejection::*;
        let passing = [BodyUnreadable, BodyTimedOut, InProgress, BackendUnavailable];
        let lasting = [KeyMissing, KeyInvalid, KeyAmbiguous, ScopeMissing, BodyTooLarge];
        let settled = [NotKept, OutcomeUnknown, Mismatch, CredentialsDiffer];
        for rejection in passing.into_iter().chain(lasting).chain(settled) {
            let document: serde_json::Value = serde_json::from_str(rejection.problem().document).unwrap();
            assert_eq!(rejection.is_retryable(), passing.contains(&rejection), "{rejection:?}");
            assert_eq!(document["retryable"], rejection.is_retryable(), "{rejection:?}");
            assert_eq!(document["status"], rejection.status().as_u16(), "{rejection:?}");
        }
    }
}
