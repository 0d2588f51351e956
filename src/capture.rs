//! What can be recorded of a response.

use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header, response};
use http_body::Body;

use crate::{
    Fingerprint, Record, RecordPolicy, ResponseBody,
    error::BoxError,
    whole::{Unread, Whole},
};

/// What can be recorded of a response.
pub(crate) enum Captured<B> {
    /// All of it; its body has been read.
    Whole(Whole),
    /// All of it: there is no body by the rules of HTTP, whatever the inner service returned.
    HeadOnly(B),
    /// Nothing: it is above the limit, an event stream, or an upgrade. Its body has not been touched.
    Unkept(B),
    /// Its length is unknown: it is recorded while it is sent, unless it turns out to be above the limit.
    Stream(B),
    /// Nothing: its body failed or ended too early, and does the same for the client.
    Broken(ResponseBody<B>),
}

/// Reads what can be recorded of a response.
pub(crate) async fn capture<B>(method: &Method, parts: &response::Parts, body: B, limit: usize) -> Captured<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    if *method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Captured::HeadOnly(body);
    }
    if parts.status.is_informational() || is_event_stream(&parts.headers) {
        return Captured::Unkept(body);
    }
    let length = match known_length(parts, &body) {
        Length::Of(length) if length <= limit => length,
        Length::Of(_) | Length::Contradictory => return Captured::Unkept(body),
        Length::Unknown => return Captured::Stream(body),
    };
    match Whole::read(pin!(body), length).await {
        // A body that goes on past its own length is cut there, as hyper does.
        Ok(whole) | Err(Unread::TooLarge(whole)) if whole.data.len() == length => Captured::Whole(whole),
        Ok(whole) | Err(Unread::TooLarge(whole)) => Captured::Broken(ResponseBody::broken(whole, None)),
        Err(Unread::Failed(whole, error)) => Captured::Broken(ResponseBody::broken(whole, Some(error.into()))),
    }
}

/// What is known of the length of a response's body before it is read.
enum Length {
    Of(usize),
    Unknown,
    /// The header disagrees with the body, or cannot be understood.
    Contradictory,
}

fn known_length<B: Body>(parts: &response::Parts, body: &B) -> Length {
    let length = match (body.size_hint().exact(), parts.headers.contains_key(header::CONTENT_LENGTH)) {
        (None, false) => return Length::Unknown,
        (exact, false) => exact,
        (exact, true) => declared_length(&parts.headers).filter(|&declared| exact.is_none_or(|len| len == declared)),
    };
    length.and_then(|length| usize::try_from(length).ok()).map_or(Length::Contradictory, Length::Of)
}

/// Events come for as long as their client listens (HTML, 9.2): there is no response to wait for.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// The length that a message declares.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Says the length that a server would say, where what is sent of the body does not tell it any more.
pub(crate) fn say_length(headers: &mut HeaderMap, length: u64) {
    // There is no room in a map with some 24,000 names.
    if let Ok(entry) = headers.try_entry(header::CONTENT_LENGTH) {
        let _ = entry.or_try_insert(length.into());
    }
}

/// The record of a response that was read; a tombstone when it has more header lines than a record can count.
pub(crate) fn whole_response(
    policy: &RecordPolicy,
    fingerprint: &Fingerprint,
    parts: &response::Parts,
    whole: &Whole,
) -> Record {
    Record::response(fingerprint, parts, policy.keeps(&parts.headers), &whole.data, whole.trailers())
        .unwrap_or_else(|| Record::tombstone(fingerprint))
}
