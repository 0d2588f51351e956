//! What gRPC says in other places than HTTP (PROTOCOL-HTTP2.md of the gRPC project).
//!
//! gRPC-Web is not treated as gRPC: its trailers are in its body, so only its HTTP status can be read.

use http::{HeaderMap, HeaderValue, header, response::Parts};

/// Whether a message is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    after_prefix(headers).is_some_and(|more| matches!(more.first(), None | Some(b'+' | b';')))
}

/// Whether a message is gRPC or gRPC-Web.
pub(crate) fn is_any_grpc(headers: &HeaderMap) -> bool {
    after_prefix(headers).is_some()
}

fn after_prefix(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::CONTENT_TYPE)?.as_bytes().strip_prefix(b"application/grpc")
}

/// Whether the head of a response says that a call has failed in a way that may pass: there is no message then.
pub(crate) fn failed(head: &Parts) -> bool {
    is_grpc(&head.headers) && grpc_status(&head.headers).is_some_and(may_pass)
}

/// The same for a call that is known to its end, where its trailers say it. One without an outcome has failed.
pub(crate) fn failed_at_end(head: &Parts, trailers: Option<&HeaderMap>) -> bool {
    is_grpc(&head.headers)
        && grpc_status(&head.headers).is_none()
        && trailers.and_then(grpc_status).is_none_or(may_pass)
}

fn grpc_status(lines: &HeaderMap) -> Option<&HeaderValue> {
    lines.get("grpc-status")
}

/// `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`, `UNAVAILABLE` and
/// `UNAUTHENTICATED`.
fn may_pass(status: &HeaderValue) -> bool {
    matches!(status.as_bytes(), b"1" | b"2" | b"4" | b"8" | b"10" | b"13" | b"14" | b"16")
}
