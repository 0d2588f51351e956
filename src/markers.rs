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
    mark(headers, REPLAYED, "true");
}

pub(crate) fn mark_not_stored(headers: &mut HeaderMap) {
    mark(headers, STORED, "false");
}

/// A map without room, which has some 24,000 names, stays unmarked: `insert` would panic.
fn mark(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    let _ = headers.try_insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_names_as_a_map_can_hold_are_left_as_they_are() {
        let mut headers = HeaderMap::new();
        let mut names = (0..).map(|number| HeaderName::try_from(format!("x-{number}")).unwrap());
        while headers.try_insert(names.next().unwrap(), HeaderValue::from_static("")).is_ok() {}
        let full = headers.clone();
        mark_replayed(&mut headers);
        mark_not_stored(&mut headers);
        assert_eq!(headers, full);
    }
}
