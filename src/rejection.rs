//! [`Rejection`]: the layer's own answers, as problem documents.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{Outcome, ResponseBody, grpc, whole::Whole};

/// Why the layer answered a request itself. Found in the extensions of such a response.
///
/// Each is a problem document (RFC 9457), `application/problem+json`, with the members `type` (the address of the
/// variant on this page), `title`, `status`, `detail` and `retryable`. To a request whose `Content-Type` is
/// `application/grpc` it is a response of trailers only, with HTTP status 200 and the `grpc-status` named below. None
/// says anything of the key or of the request. [`on_rejection`](crate::IdempotencyLayer::on_rejection) words them
/// otherwise.
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
    /// 401, `UNAUTHENTICATED`: the service keeps a key space for each principal, and the request has none.
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
    /// 422, `FAILED_PRECONDITION`: the key was used for another request.
    Mismatch,
    /// 422, `FAILED_PRECONDITION`: the key was used for the same request with other credentials.
    CredentialsDiffer,
    /// 503, `UNAVAILABLE`, with `Retry-After: 1`: the backend cannot say whether the request has been executed, so it
    /// is not. The extensions of the response hold the cause, if there is one to show, as an
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

/// A problem document, and what else an answer needs.
struct Problem {
    status: StatusCode,
    /// Status code of gRPC.
    grpc: &'static str,
    detail: &'static str,
    document: &'static str,
    /// Whether the same request may succeed later without being changed.
    retryable: bool,
}

/// Builds the documents at compile time: they hold no word from a request.
macro_rules! problem {
    ($status:ident $code:literal, grpc $grpc:literal, $variant:literal, retryable: $retryable:literal, $title:literal, $detail:literal) => {
        Problem {
            status: StatusCode::$status,
            grpc: $grpc,
            detail: $detail,
            retryable: $retryable,
            document: concat!(
                r#"{"type":"https://docs.rs/tower-idempotency/latest/tower_idempotency/enum.Rejection.html#variant."#,
                $variant,
                r#"","title":""#,
                $title,
                r#"","status":"#,
                $code,
                r#","detail":""#,
                $detail,
                r#"","retryable":"#,
                $retryable,
                "}",
            ),
        }
    };
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
        response.extensions_mut().insert(Outcome::from(self));
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

    const fn problem(self) -> Problem {
        match self {
            Self::KeyMissing => problem!(
                BAD_REQUEST 400, grpc "3", "KeyMissing", retryable: false,
                "Idempotency key is missing",
                "This operation requires an idempotency key, usually in the header Idempotency-Key."
            ),
            Self::KeyInvalid => problem!(
                BAD_REQUEST 400, grpc "3", "KeyInvalid", retryable: false,
                "Idempotency key is invalid",
                "A key is 1 to 255 visible ASCII characters without blanks, bare or in double quotes."
            ),
            Self::KeyAmbiguous => problem!(
                BAD_REQUEST 400, grpc "3", "KeyAmbiguous", retryable: false,
                "Request has more than one idempotency key",
                "Send one key, in one line."
            ),
            Self::ScopeMissing => problem!(
                UNAUTHORIZED 401, grpc "16", "ScopeMissing", retryable: false,
                "Caller is unknown",
                "Idempotency keys are kept for each caller here, and this request does not say who sends it. Nothing was executed."
            ),
            Self::BodyUnreadable => problem!(
                BAD_REQUEST 400, grpc "3", "BodyUnreadable", retryable: true,
                "Request body cannot be read",
                "The body ended before it was complete. Nothing was executed."
            ),
            Self::BodyTimedOut => problem!(
                REQUEST_TIMEOUT 408, grpc "4", "BodyTimedOut", retryable: true,
                "Request body took too long",
                "The body did not arrive in time. Nothing was executed."
            ),
            Self::BodyTooLarge => problem!(
                PAYLOAD_TOO_LARGE 413, grpc "8", "BodyTooLarge", retryable: false,
                "Request body is too large",
                "A request with an idempotency key is limited in size. Nothing was executed."
            ),
            Self::InProgress => problem!(
                CONFLICT 409, grpc "10", "InProgress", retryable: true,
                "Request is in progress",
                "A request with this idempotency key is being executed. Retry later for its response."
            ),
            Self::NotKept => problem!(
                CONFLICT 409, grpc "6", "NotKept", retryable: false,
                "Response was not kept",
                "A request with this idempotency key has been executed, but its response was not kept, for example because it was too large or a stream."
            ),
            Self::OutcomeUnknown => problem!(
                CONFLICT 409, grpc "6", "OutcomeUnknown", retryable: false,
                "Outcome is unknown",
                "A request with this idempotency key may have been executed. It is not repeated."
            ),
            Self::Mismatch => problem!(
                UNPROCESSABLE_ENTITY 422, grpc "9", "Mismatch", retryable: false,
                "Idempotency key is already used",
                "This idempotency key belongs to a request with another method, target or body."
            ),
            Self::CredentialsDiffer => problem!(
                UNPROCESSABLE_ENTITY 422, grpc "9", "CredentialsDiffer", retryable: false,
                "Idempotency key is already used with other credentials",
                "This idempotency key belongs to the same request with another Authorization header. Where tokens rotate, the service should set a scope."
            ),
            Self::BackendUnavailable => problem!(
                SERVICE_UNAVAILABLE 503, grpc "14", "BackendUnavailable", retryable: true,
                "Idempotency cannot be guaranteed",
                "Whether this request has been executed before cannot be found out now. Nothing was executed."
            ),
        }
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
