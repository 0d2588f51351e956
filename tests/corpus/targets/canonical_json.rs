//! Bodies of JSON have one fingerprint if and only if they mean the same, whatever their spelling; what cannot be told apart
//! that way counts byte by byte.
//!
//! Documents are made out of the input and then spelled, so that what they mean is known without a parser.

use std::thread_local;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use tower_idempotency::{FingerprintPolicy, Key, KeySource};

use super::{
    desk::Desk,
    digest::{prefixed, sha256, text_of},
    document::Json,
    input::Input,
    rfc8785::Plain,
};

thread_local! {
    static POLICY: Desk = Desk::new(|layer| {
        layer.key(KeySource::by(|_, _| Some("k"))).fingerprint(FingerprintPolicy::canonical_json())
    });
    static POINTER: Desk = Desk::new(|layer| layer.key(KeySource::json_pointer("")));
    static POINTERS: Desk = Desk::new(|layer| layer.key(KeySource::json_pointers(["", "/0", "/a"])));
}

pub(crate) fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 4 {
        0 => any_text_is_canonical_or_itself(rest),
        1 => deep_nesting_is_bounded(Input(rest)),
        _ => spellings_do_not_count_and_values_do(Input(rest)),
    }
}

/// The part of the fingerprint that says what the request is.
fn fingerprint(body: &[u8]) -> [u8; 32] {
    let asked = POLICY.with(|desk| desk.ask(request(body)));
    let (_, fingerprint) = asked.claim.expect("it is claimed");
    *fingerprint.to_bytes().first_chunk().unwrap()
}

fn request(body: &[u8]) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body));
    Request::post("/").header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
}

/// The fingerprint of a request whose body counts as `body`.
fn fingerprint_of(body: &[u8]) -> [u8; 32] {
    let target = [&b"POST"[..], b"", b"/"].into_iter().flat_map(prefixed);
    sha256(&target.chain(body.iter().copied()).collect::<Vec<_>>())
}

/// Any bytes: the fingerprint is that of the canonical form of what a parser makes of them, or that of the bytes.
fn any_text_is_canonical_or_itself(text: &[u8]) {
    let expected =
        serde_json::from_slice::<serde_json::Value>(text).ok().and_then(|value| Json::from(value).canonical());
    assert_eq!(fingerprint(text), fingerprint_of(expected.as_deref().unwrap_or(text)));
    if let Some(canonical) = &expected {
        assert_eq!(fingerprint(canonical), fingerprint_of(canonical), "the canonical form has another one");
    }
    let keys = [&POINTER, &POINTERS].map(|desk| desk.with(|desk| desk.ask(request(text)).claim.map(|(key, _)| key)));
    let Some(canonical) = expected else { return };
    let pointed = [&POINTER, &POINTERS].map(|desk| desk.with(|desk| desk.ask(request(&canonical)).claim));
    assert_eq!(keys, pointed.map(|claim| claim.map(|(key, _)| key)), "equal documents have different keys");
}

/// Whatever is nested deeper than a parser goes is bytes.
fn deep_nesting_is_bounded(mut input: Input<'_>) {
    let depth = usize::from(input.byte()) * (1 << (input.byte() % 5));
    let (open, close) = [("[", "]"), ("{\"a\":", "}")][usize::from(input.byte() % 2)];
    let text = format!("{}{}{}", open.repeat(depth), "1", close.repeat(depth));
    let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    assert_eq!(parsed.is_some(), depth < 128);
    assert_eq!(fingerprint(text.as_bytes()), fingerprint_of(text.as_bytes()), "spelled canonically, or bytes");
    POINTER.with(|desk| desk.ask(request(text.as_bytes())));
}

fn spellings_do_not_count_and_values_do(mut input: Input<'_>) {
    let Some(one) = Json::read(&mut input, 0) else { return };
    let Some(other) = Json::read(&mut input, 0) else { return };
    let (form, other_form) = (one.canonical(), other.canonical());
    let [first, again, second] = [(&one, &form), (&one, &form), (&other, &other_form)].map(|(json, form)| {
        let spelled = json.spelled(&mut input);
        let found = fingerprint(spelled.as_bytes());
        assert_eq!(found, fingerprint_of(form.as_deref().unwrap_or(spelled.as_bytes())), "{spelled}");
        (found, spelled)
    });
    let exact = form.is_some();
    assert!(!exact || first.0 == again.0, "{} and {}", first.1, again.1);
    assert!(!exact || (first.0 == second.0) == (one.plain() == other.plain()), "{} and {}", first.1, second.1);
    let key = POINTER.with(|desk| desk.ask(request(first.1.as_bytes()))).claim.map(|(key, _)| key);
    assert!(!exact || key == form.and_then(|form| key_of(&one, form)), "the key of {}", first.1);
}

/// The key that the whole document is.
fn key_of(document: &Json, canonical: Vec<u8>) -> Option<Key> {
    let text = match document.plain() {
        Plain::Null => return None,
        Plain::Text(text) => text.into_bytes(),
        Plain::Bool(_) | Plain::Number(_) => canonical,
        _ => return Some(Key::new("", text_of(sha256(&canonical)))),
    };
    let is_text = text.len() <= 255 && text.iter().all(u8::is_ascii_graphic);
    (!text.is_empty()).then(|| if is_text { Key::new("", text) } else { Key::new("", text_of(sha256(&text))) })
}
