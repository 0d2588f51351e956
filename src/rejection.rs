//! [`Rejection`]: the layer's own answers, as problem documents.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;

use crate::ResponseBody;

/// Why the layer answered a request itself. Found in the extensions of such a response.
///
/// Each is a problem document (RFC 9457), `application/problem+json`, with the members `type`, `title`, `status`,
/// `detail` and `retryable`. None says anything of the key or of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// 400: this operation requires a key, and the request has none.
    KeyMissing,
    /// 400: the key is not 1 to 255 visible ASCII characters, bare or as a String of RFC 8941.
    KeyInvalid,
    /// 400: the request has more than one key.
    KeyAmbiguous,
    /// 401: the service keeps a key space for each principal, and the request has none.
    ScopeMissing,
    /// 400: the request's body ended with an error.
    BodyUnreadable,
    /// 408: the request's body did not arrive in time.
    BodyTimedOut,
    /// 413: the request's body is larger than the layer reads.
    BodyTooLarge,
    /// 409: the first request with this key is still running.
    InProgress,
    /// 409: the first request with this key has been executed, but its response was not kept.
    NotKept,
    /// 409: the first request with this key may have been executed, and must not be repeated.
    OutcomeUnknown,
    /// 422: the key was used for another request.
    Mismatch,
    /// 422: the key was used for the same request with other credentials.
    CredentialsDiffer,
    /// 503: the backend cannot say whether the request has been executed, so it is not.
    BackendUnavailable,
}

/// A problem document, and what else an answer needs.
struct Problem {
    status: StatusCode,
    document: &'static str,
    /// Whether the same request may succeed later without being changed.
    retryable: bool,
}

/// Builds the documents at compile time: they hold no word from a request.
macro_rules! problem {
    ($status:ident $code:literal, $variant:literal, retryable: $retryable:literal, $title:literal, $detail:literal) => {
        Problem {
            status: StatusCode::$status,
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
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.problem().status
    }

    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        self.problem().retryable
    }

    pub(crate) fn response<B: Body>(self) -> Response<ResponseBody<B>> {
        let problem = self.problem();
        let mut response = Response::new(ResponseBody::whole(Bytes::from_static(problem.document.as_bytes()), None));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(self, Self::InProgress | Self::BackendUnavailable) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self);
        response
    }

    const fn problem(self) -> Problem {
        match self {
            Self::KeyMissing => problem!(
                BAD_REQUEST 400, "KeyMissing", retryable: false,
                "Idempotency key is missing",
                "This operation requires an idempotency key, usually in the header Idempotency-Key."
            ),
            Self::KeyInvalid => problem!(
                BAD_REQUEST 400, "KeyInvalid", retryable: false,
                "Idempotency key is invalid",
                "A key is 1 to 255 visible ASCII characters without blanks, bare or in double quotes."
            ),
            Self::KeyAmbiguous => problem!(
                BAD_REQUEST 400, "KeyAmbiguous", retryable: false,
                "Request has more than one idempotency key",
                "Send one key, in one line."
            ),
            Self::ScopeMissing => problem!(
                UNAUTHORIZED 401, "ScopeMissing", retryable: false,
                "Caller is unknown",
                "Idempotency keys are kept for each caller here, and this request does not say who sends it. Nothing was executed."
            ),
            Self::BodyUnreadable => problem!(
                BAD_REQUEST 400, "BodyUnreadable", retryable: true,
                "Request body cannot be read",
                "The body ended before it was complete. Nothing was executed."
            ),
            Self::BodyTimedOut => problem!(
                REQUEST_TIMEOUT 408, "BodyTimedOut", retryable: true,
                "Request body took too long",
                "The body did not arrive in time. Nothing was executed."
            ),
            Self::BodyTooLarge => problem!(
                PAYLOAD_TOO_LARGE 413, "BodyTooLarge", retryable: false,
                "Request body is too large",
                "A request with an idempotency key is limited in size. Nothing was executed."
            ),
            Self::InProgress => problem!(
                CONFLICT 409, "InProgress", retryable: true,
                "Request is in progress",
                "A request with this idempotency key is being executed. Retry later for its response."
            ),
            Self::NotKept => problem!(
                CONFLICT 409, "NotKept", retryable: false,
                "Response was not kept",
                "A request with this idempotency key has been executed, but its response was too large to keep or was a stream."
            ),
            Self::OutcomeUnknown => problem!(
                CONFLICT 409, "OutcomeUnknown", retryable: false,
                "Outcome is unknown",
                "A request with this idempotency key may have been executed. It is not repeated."
            ),
            Self::Mismatch => problem!(
                UNPROCESSABLE_ENTITY 422, "Mismatch", retryable: false,
                "Idempotency key is already used",
                "This idempotency key belongs to a request with another method, target or body."
            ),
            Self::CredentialsDiffer => problem!(
                UNPROCESSABLE_ENTITY 422, "CredentialsDiffer", retryable: false,
                "Idempotency key is already used with other credentials",
                "This idempotency key belongs to the same request with another Authorization header. Where tokens rotate, the service should set a scope."
            ),
            Self::BackendUnavailable => problem!(
                SERVICE_UNAVAILABLE 503, "BackendUnavailable", retryable: true,
                "Idempotency cannot be guaranteed",
                "Whether this request has been executed before cannot be found out now. Nothing was executed."
            ),
        }
    }
}
