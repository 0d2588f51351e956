//! What can be recorded of a response.

use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header, response};
use http_body::Body;

use crate::{
    Fingerprint, Record, RecordPolicy, ResponseBody,
    body::{Unread, Whole},
};

/// What can be recorded of a response.
pub(crate) enum Captured<B: Body> {
    /// All of it; its body has been read.
    Whole(Whole),
    /// All of it; there is no body, whatever the inner service gave.
    HeadOnly(B),
    /// Nothing: its length is unknown, or above the limit. Its body has not been touched.
    Unkept(B),
    /// Nothing: its body failed or ended too early, and does so again for the client.
    Broken(ResponseBody<B>),
}

/// Reads of a response what can be recorded.
pub(crate) async fn capture<B>(method: &Method, parts: &response::Parts, body: B, limit: usize) -> Captured<B>
where
    B: Body<Data = Bytes>,
{
    if *method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Captured::HeadOnly(body);
    }
    let Some(length) = known_length(parts, &body).filter(|&length| length <= limit) else {
        return Captured::Unkept(body);
    };
    match Whole::read(pin!(body), length).await {
        // A body that goes on past its own length is cut there, as hyper does.
        Ok(whole) | Err(Unread::TooLarge(whole)) if whole.data.len() == length => Captured::Whole(whole),
        Ok(whole) | Err(Unread::TooLarge(whole)) => Captured::Broken(ResponseBody::broken(whole, None)),
        Err(Unread::Failed(whole, error)) => Captured::Broken(ResponseBody::broken(whole, Some(error))),
    }
}

/// The length of a response's body, if it is known before the body is read, and nobody contradicts it.
fn known_length<B: Body>(parts: &response::Parts, body: &B) -> Option<usize> {
    if parts.status.is_informational() {
        return None; // the connection is about to become something else
    }
    let length = match (body.size_hint().exact(), parts.headers.contains_key(header::CONTENT_LENGTH)) {
        (exact, false) => exact,
        (exact, true) => declared_length(&parts.headers).filter(|&declared| exact.is_none_or(|len| len == declared)),
    };
    usize::try_from(length?).ok()
}

/// What a message says of its length.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The record of a response and what was read of it; a tombstone when it has more lines than a record can count.
pub(crate) fn whole_response(
    policy: &RecordPolicy,
    fingerprint: &Fingerprint,
    parts: &response::Parts,
    whole: &Whole,
) -> Record {
    let keeps = |name: &HeaderName| policy.keeps(&parts.headers, name);
    Record::response(fingerprint, parts, keeps, &whole.data, whole.trailers.as_ref())
        .unwrap_or_else(|| Record::tombstone(fingerprint))
}
