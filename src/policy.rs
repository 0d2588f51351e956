//! What is recorded of a response.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// On a replayed response: `true`.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// On a response that could not be recorded: `false`.
pub(crate) const STORED: HeaderName = HeaderName::from_static("idempotency-stored");

/// Whether a run that answered with `status` has not happened as far as its key is concerned: the server failed, or
/// refused for a reason that passes, so the next request runs.
pub(crate) fn releases(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        )
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
