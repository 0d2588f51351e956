//! The texts of the layer's own answers.

use http::StatusCode;

use super::Rejection;

/// A problem document, and what else an answer needs.
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// Status code of gRPC.
    pub(super) grpc: &'static str,
    pub(super) detail: &'static str,
    pub(super) document: &'static str,
    /// Whether the same request may succeed later without being changed.
    pub(super) retryable: bool,
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
    pub(super) const fn problem(self) -> Problem {
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
