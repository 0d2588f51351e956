//! From what a client sends to the key that a backend sees.

use std::thread_local;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use tower_idempotency::{Key, KeySource, Rejection};

use super::{
    desk::Desk,
    digest::{key_input, sha256, text_of},
    input::Input,
};

const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("x-idempotency-key"), HeaderName::from_static("idempotency-key")];

thread_local! {
    static HEADERS: Desk = Desk::new(|layer| layer);
    static BODY: Desk = Desk::new(|layer| layer.key(KeySource::by(|_, body| Some(body.to_vec()))));
}

pub(crate) fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 4 {
        0 => any_headers_are_judged_as_described(rest),
        1 => both_spellings_of_a_text_are_one_key(rest),
        2 => a_value_from_elsewhere_is_its_own_key_or_its_digest(rest),
        _ => different_triples_have_different_keys(Input(rest)),
    }
}

/// What the layer makes of these header lines: a key, none, or a reason to refuse.
fn judged(lines: &[(usize, HeaderValue)]) -> Result<Option<Key>, Rejection> {
    let mut request = Request::post("/").body(Full::<Bytes>::default()).unwrap();
    for (name, value) in lines {
        request.headers_mut().append(&NAMES[*name], value.clone());
    }
    let asked = HEADERS.with(|desk| desk.ask(request));
    match (asked.claim, asked.answer.rejection()) {
        (Some((key, _)), Some(Rejection::NotKept)) => Ok(Some(key)),
        (None, Some(rejection)) => Err(rejection),
        (None, None) => Ok(None),
        other => panic!("{other:?}"),
    }
}

/// Each line of the input is one header line: a byte that chooses the name, and the value.
fn any_headers_are_judged_as_described(input: &[u8]) {
    let lines: Vec<_> = input
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let (name, value) = line.split_first()?;
            Some((usize::from(name % 2), HeaderValue::from_bytes(value).ok()?))
        })
        .collect();
    let said = NAMES.each_ref().map(|name| {
        let mut values = lines.iter().filter(|(other, _)| NAMES[*other] == *name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(Rejection::KeyAmbiguous),
            (Some(value), None) => meant(value.as_bytes()).map(Some).ok_or(Rejection::KeyInvalid),
        }
    });
    let judged = judged(&lines);
    match said {
        [Ok(Some(one)), Ok(Some(other))] if one != other => assert_eq!(judged, Err(Rejection::KeyAmbiguous)),
        [Ok(one), Ok(other)] => assert_eq!(judged, Ok(one.or(other).map(|text| Key::new("", text)))),
        // Where both are wrong either may be named.
        [one, other] => assert!([one.err(), other.err()].contains(&judged.err()), "{judged:?}"),
    }
}

/// What a client means by a header value: `"text"` is what is written so, anything else is itself.
fn meant(sent: &[u8]) -> Option<String> {
    let sent = std::str::from_utf8(sent).ok()?.trim_matches([' ', '\t']);
    let text = if let Some(quoted_text) = sent.strip_prefix('"') {
        // Whatever the value may mean, it must be written exactly so.
        let (mut text, mut escaped) = (String::new(), false);
        for char in quoted_text.chars() {
            escaped = char == '\\' && !escaped;
            if !escaped {
                text.push(char);
            }
        }
        text.pop();
        (quoted(&text) == sent).then_some(text)?
    } else {
        sent.to_owned()
    };
    is_text(text.as_bytes()).then_some(text)
}

fn is_text(text: &[u8]) -> bool {
    text.iter().all(|byte| (0x21..=0x7e).contains(byte)) && !text.is_empty() && text.len() <= 255
}

/// RFC 8941, section 4.1.6.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn both_spellings_of_a_text_are_one_key(input: &[u8]) {
    let Some((padding, text)) = input.split_first() else { return };
    let Some(text) = std::str::from_utf8(text).ok().filter(|text| is_text(text.as_bytes())) else { return };
    let padded = |sent: &str| {
        let (before, after) = (usize::from(padding & 7), usize::from(padding >> 5));
        HeaderValue::try_from(format!("{}{sent}{}", " ".repeat(before), "\t".repeat(after))).unwrap()
    };
    let key = Ok(Some(Key::new("", text)));
    assert_eq!(judged(&[(0, padded(&quoted(text)))]), key);
    if !text.starts_with('"') {
        assert_eq!(judged(&[(1, padded(text))]), key);
        assert_eq!(judged(&[(1, padded(text)), (0, padded(&quoted(text)))]), key);
    }
}

fn a_value_from_elsewhere_is_its_own_key_or_its_digest(value: &[u8]) {
    let request = Request::post("/").body(Full::new(Bytes::copy_from_slice(value))).unwrap();
    let key = BODY.with(|desk| desk.ask(request)).claim.map(|(key, _)| key);
    let expected = match value {
        [] => None,
        text if is_text(text) => Some(Key::new("", text)),
        other => Some(Key::new("", text_of(sha256(other)))),
    };
    assert_eq!(key, expected);
}

/// Two triples of the same bytes, cut at other places.
fn different_triples_have_different_keys(mut input: Input<'_>) {
    let cuts: [_; 4] = std::array::from_fn(|_| usize::from(input.byte() % 16));
    let scoped = input.byte();
    let triple = |number: usize| {
        let mut pool = input;
        let namespace = std::str::from_utf8(pool.take(cuts[2 * number])).ok()?;
        let scope = (scoped >> number & 1 == 1).then(|| pool.take(cuts[2 * number + 1]));
        Some((namespace, scope, pool.0))
    };
    let (Some(one), Some(other)) = (triple(0), triple(1)) else { return };
    let [first, second] = [one, other].map(|(namespace, scope, text)| {
        let key = scope.map_or_else(|| Key::new(namespace, text), |scope| Key::scoped(namespace, scope, text));
        let described = key_input(namespace, u8::from(scope.is_some()), scope.unwrap_or_default(), text);
        assert_eq!(*key.as_bytes(), sha256(&described));
        key
    });
    assert_eq!(first == second, one == other, "{one:?} and {other:?}");
}
