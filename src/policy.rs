//! What is recorded of a response.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response::Parts};

/// On a replayed response: `true`.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// On a response that could not be recorded: `false`.
pub(crate) const STORED: HeaderName = HeaderName::from_static("idempotency-stored");

/// Whether a run that answered with `status` has not happened as far as its key is concerned: the server failed, or
/// refused for a reason that passes, so the next request runs.
pub(crate) fn releases(head: &Parts) -> bool {
    let passes = matches!(
        head.status,
        StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    );
    head.status.is_server_error() || passes || (is_grpc(&head.headers) && grpc_status(&head.headers).is_some_and(fails))
}

/// The same for a response that is known to its end. gRPC tells its outcome in the trailers, or, where there is no body,
/// in the head; one without an outcome has failed.
pub(crate) fn releases_at_end(head: &Parts, trailers: Option<&HeaderMap>) -> bool {
    is_grpc(&head.headers) && grpc_status(&head.headers).is_none() && trailers.and_then(grpc_status).is_none_or(fails)
}

/// Whether a message is gRPC (PROTOCOL-HTTP2.md of the gRPC project). gRPC-Web is not: its trailers are in its body.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    content_type.strip_prefix(b"application/grpc").is_some_and(|more| matches!(more.first(), None | Some(b'+' | b';')))
}

fn grpc_status(lines: &HeaderMap) -> Option<&HeaderValue> {
    lines.get("grpc-status")
}

/// `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`, `UNAVAILABLE` and
/// `UNAUTHENTICATED`.
fn fails(status: &HeaderValue) -> bool {
    matches!(status.as_bytes(), b"1" | b"2" | b"4" | b"8" | b"10" | b"13" | b"14" | b"16")
}

/// Whether a header belongs into a record: not what is said of one connection (RFC 9110, 7.6.1), of one point in time,
/// or to one user.
pub(crate) fn keeps(headers: &HeaderMap, name: &HeaderName) -> bool {
    let dropped = match name.as_str() {
        "connection"
        | "keep-alive"
        | "te"
        | "transfer-encoding"
        | "upgrade"
        | "date"
        | "www-authenticate"
        | "authentication-info"
        | "set-cookie" => true,
        other => other.starts_with("proxy-"),
    };
    !dropped && !is_named_by_connection(headers, name)
}

fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Takes away markers that are not the layer's own.
pub(crate) fn strip_markers(headers: &mut HeaderMap) {
    headers.remove(REPLAYED);
    headers.remove(STORED);
}

pub(crate) fn mark_replayed(headers: &mut HeaderMap) {
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
}

pub(crate) fn mark_not_stored(headers: &mut HeaderMap) {
    headers.insert(STORED, HeaderValue::from_static("false"));
}
