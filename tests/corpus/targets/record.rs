//! Decoding of records is total, what is replayed is what the layout says, and what was replayed is recorded as it was.

use std::{mem, thread_local};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tower_idempotency::{Record, RecordPolicy, Rejection};

use super::desk::{Answer, Desk};

thread_local! {
    static DESK: Desk = Desk::new(|layer| layer.record(RecordPolicy::everything().keep_header("set-cookie")));
}

pub(crate) fn run(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    let Ok(record) = Record::from_bytes(input.clone()) else { return };
    assert_eq!(record.to_bytes(), input);
    assert_eq!(record.fingerprint().to_bytes(), input[2..50]);
    if let Some(value) = record.as_value() {
        assert_eq!(Record::value(&record.fingerprint(), &value), record);
    }
    let answer = DESK.with(|desk| desk.replay(&input)).answer;
    match input[1] {
        0 | 2 => assert_eq!(answer.rejection(), Some(Rejection::NotKept)),
        3 => assert_eq!(answer.rejection(), Some(Rejection::OutcomeUnknown)),
        _ => {
            assert_is_described(&answer, &input[50..]);
            comes_back(answer);
        }
    }
}

/// A replay of a response is what the layout says.
fn assert_is_described(answer: &Answer, mut layout: &[u8]) {
    let mut number = || {
        let (number, rest) = layout.split_first_chunk().unwrap();
        layout = rest;
        u16::from_be_bytes(*number)
    };
    let (status, headers, trailers) = (number(), number(), number());
    let mut expected = lines(&mut layout, headers);
    expected.insert("idempotent-replayed", HeaderValue::from_static("true"));
    assert_eq!(answer.head.status.as_u16(), status);
    assert_eq!(all(&answer.head.headers), all(&expected));
    assert_eq!(answer.trailers, (trailers != u16::MAX).then(|| lines(&mut layout, trailers)));
    assert_eq!(answer.body, layout);
}

/// All that a record says of header lines: whether they are sensitive is not part of their equality.
fn all(headers: &HeaderMap) -> Vec<(HeaderName, Vec<u8>, bool)> {
    let lines = headers.iter().map(|(name, value)| (name.clone(), value.as_bytes().to_vec(), value.is_sensitive()));
    lines.collect()
}

fn lines(layout: &mut &[u8], count: u16) -> HeaderMap {
    let mut lines = HeaderMap::new();
    for _ in 0..count {
        let (first, rest) = layout.split_first().unwrap();
        *layout = rest;
        let name = match first & 0x7f {
            // It takes a quotation mark, which `from_bytes` refuses: a handler may have sent one.
            0 => HeaderName::from_lowercase(text(layout)).unwrap(),
            code => name_of(code),
        };
        let mut value = HeaderValue::from_bytes(text(layout)).unwrap();
        value.set_sensitive(first & 0x80 != 0);
        lines.append(name, value);
    }
    lines
}

fn text<'a>(layout: &mut &'a [u8]) -> &'a [u8] {
    let end = layout.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let length = layout[..=end].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    let (text, rest) = mem::take(layout)[end + 1..].split_at(length);
    *layout = rest;
    text
}

/// The names that stand in a record as one byte, in the order of the bytes.
const NAMES: &str = "content-type content-length location cache-control etag last-modified vary link content-encoding \
    content-language content-location content-disposition content-range accept-ranges allow age expires pragma server \
    set-cookie retry-after via access-control-allow-origin access-control-allow-credentials \
    access-control-allow-headers access-control-allow-methods access-control-expose-headers access-control-max-age \
    strict-transport-security content-security-policy x-content-type-options x-frame-options x-xss-protection \
    referrer-policy x-request-id grpc-status grpc-message grpc-encoding";

fn name_of(code: u8) -> HeaderName {
    HeaderName::from_static(NAMES.split(' ').nth(usize::from(code) - 1).unwrap())
}

/// What was replayed is recorded, and replayed, as it was.
fn comes_back(mut answer: Answer) {
    answer.head.extensions = http::Extensions::new();
    let Some(first) = recorded(answer.clone()) else { return };
    let again = DESK.with(|desk| desk.replay(&first.to_bytes())).answer;
    if again.rejection().is_some() {
        return; // only that it was there was recorded: a stream of events
    }
    assert_eq!(again.head.status, answer.head.status);
    if !answer.head.headers.contains_key(header::CONNECTION) {
        for name in answer.head.headers.keys().filter(|name| is_kept(name)) {
            let lines =
                |headers: &HeaderMap| all(headers).into_iter().filter(|(other, ..)| other == name).collect::<Vec<_>>();
            assert_eq!(lines(&again.head.headers), lines(&answer.head.headers), "{name}");
        }
    }
    let mut second = again;
    second.head.extensions = http::Extensions::new();
    assert_eq!(recorded(second), Some(first));
}

fn recorded(answer: Answer) -> Option<Record> {
    DESK.with(|desk| desk.record(answer)).recorded
}

fn is_kept(name: &HeaderName) -> bool {
    let dropped = [
        "connection",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "date",
        "www-authenticate",
        "authentication-info",
        "content-length",
        "idempotency-stored",
    ];
    !dropped.contains(&name.as_str()) && !name.as_str().starts_with("proxy-")
}
