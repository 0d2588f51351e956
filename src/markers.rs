//! The headers by which the layer marks responses.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

/// On a replayed response: `true`.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// On a response that could not be recorded: `false`.
const STORED: HeaderName = HeaderName::from_static("idempotency-stored");

/// Takes away markers that are not the layer's own. A look at all names costs less than to hash two that are not there.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if headers.keys().any(|name| *name == REPLAYED || *name == STORED) {
        headers.remove(REPLAYED);
        headers.remove(STORED);
    }
}

/// The trailers in a frame, without markers that are not the layer's own.
pub(crate) fn trailers(frame: Frame<Bytes>) -> Option<HeaderMap> {
    let mut trailers = frame.into_trailers().ok()?;
    strip(&mut trailers);
    Some(trailers)
}

pub(crate) fn mark_replayed(headers: &mut HeaderMap) {
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
}

pub(crate) fn mark_not_stored(headers: &mut HeaderMap) {
    headers.insert(STORED, HeaderValue::from_static("false"));
}
