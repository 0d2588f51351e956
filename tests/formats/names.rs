//! The names under which things are stored, and what requests are compared by: keys, fingerprints, derived keys.
//!
//! Other services keep derived keys, stores keep the rest: a release that makes them otherwise forgets every record, refuses
//! retries or repeats calls. They are the same in every version.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::{
    Backend, BodyHash, Entry, Fingerprint, FingerprintPolicy, IdempotencyLayer, Key, KeySource, MemoryBackend,
    RequestBody, Run,
};

use crate::{fixtures::VERSIONS, order};

type Layered = IdempotencyLayer<MemoryBackend>;
type Order = Request<Full<Bytes>>;

const WINDOW: Duration = Duration::from_secs(10);

/// The lines of a fixture, by their names.
fn pinned(names: &'static str) -> BTreeMap<&'static str, &'static str> {
    names.lines().map(|line| line.split_once(": ").expect("a name and digits")).collect()
}

fn unhex<const LENGTH: usize>(digits: &str) -> [u8; LENGTH] {
    assert_eq!(digits.len(), 2 * LENGTH);
    std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}

/// Asks a layer, and returns what its backend holds then under `key`, and what the run derived from `parts`.
async fn left(
    set: impl FnOnce(Layered) -> Layered,
    request: Order,
    key: &str,
    parts: &'static [&'static str],
) -> (Option<Fingerprint>, String) {
    let (backend, derived) = (MemoryBackend::new(), Arc::new(Mutex::new(String::new())));
    let heard = Arc::clone(&derived);
    let service = set(IdempotencyLayer::new(backend.clone())).layer(service_fn(
        move |request: Request<RequestBody<Full<Bytes>>>| {
            *heard.lock().unwrap() = request.extensions().get::<Run>().expect("it is guarded").derive(parts);
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        },
    ));
    service.oneshot(request).await.unwrap();
    let fingerprint = match backend.get(&Key::from_bytes(unhex(key))).await.unwrap() {
        Some(Entry::Completed(record)) => Some(record.fingerprint()),
        _ => None,
    };
    let derived = derived.lock().unwrap().clone();
    (fingerprint, derived)
}

fn with(mut order: Order, headers: &[(&'static str, &'static str)], body: Option<&'static str>) -> Order {
    order
        .headers_mut()
        .extend(headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())));
    if let Some(body) = body {
        *order.body_mut() = Full::from(body);
    }
    order
}

fn unnamed() -> Order {
    let mut order = order("none");
    order.headers_mut().clear();
    order
}

const DOCUMENT: &str = r#"{"data": {"\u20ac": 1.0, "a": [1e2, "\u0041"]}, "id": "evt_1", "n": 1.50, "m": 2}"#;

#[tokio::test]
async fn keys_are_made_as_they_ever_were() {
    for version in &VERSIONS {
        let mut pinned = pinned(version.names);
        pinned.retain(|name, _| name.starts_with("key "));
        let mut key = |name: &str| pinned.remove(name).unwrap();
        for (name, made) in [
            ("key of a text", Key::new("", "k-1")),
            ("key in a namespace", Key::new("orders", "8e03978e-40d5-43e8-bc93-6894a57f9324")),
            ("key of a principal", Key::scoped("orders", "acme", "8e03978e")),
        ] {
            assert_eq!(made.to_string(), key(name), "{name}");
        }
        let document = || with(unnamed(), &[], Some(DOCUMENT));
        let pointing = |pointer: &'static str| move |layer: Layered| layer.key(KeySource::json_pointer(pointer));
        let known = |hash: BodyHash| move |layer: Layered| layer.namespace("n").key(KeySource::from(hash));
        let caller = [("authorization", "Bearer a"), ("cookie", "a=1"), ("cookie", "b=2")];
        let mut expect = async |name: &str, set: Box<dyn FnOnce(Layered) -> Layered>, request: Order| {
            assert!(left(set, request, key(name), &[]).await.0.is_some(), "{name}");
        };
        let quoted = with(unnamed(), &[("idempotency-key", r#""a\"b\\c""#)], None);
        expect("key of a quoted header", Box::new(|layer| layer), quoted).await;
        let words = |layer: Layered| layer.key(KeySource::by(|_, _| Some("two words")));
        expect("key of two words", Box::new(words), unnamed()).await;
        expect("key of a string in JSON", Box::new(pointing("/id")), document()).await;
        expect("key of a number in JSON", Box::new(pointing("/n")), document()).await;
        expect("key of an object in JSON", Box::new(pointing("/data")), document()).await;
        let pointers = |layer: Layered| layer.key(KeySource::json_pointers(["/id", "/m"]));
        expect("key of two values in JSON", Box::new(pointers), document()).await;
        expect("key of a body", Box::new(known(BodyHash::any_caller(WINDOW))), unnamed()).await;
        let per_caller = || BodyHash::per_caller(WINDOW);
        expect("key of a body and its caller", Box::new(known(per_caller())), with(unnamed(), &caller, None)).await;
        let scoped = |layer: Layered| known(per_caller())(layer).scope(|_| Some("acme"));
        expect("key of a body and its principal", Box::new(scoped), unnamed()).await;
        assert!(pinned.is_empty(), "no test makes {pinned:?}");
    }
}

#[tokio::test]
async fn fingerprints_are_made_as_they_ever_were() {
    for version in &VERSIONS {
        let mut pinned = pinned(version.names);
        let (key, known) = (pinned["key of a text"], pinned["key of a body"]);
        pinned.retain(|name, _| name.starts_with("fingerprint"));
        let mut expect = async |name: &str, set: fn(Layered) -> Layered, key: &str, request: Order| {
            let made = left(set, request, key, &[]).await.0.map(|made| made.to_bytes());
            assert_eq!(made, Some(unhex(pinned.remove(name).unwrap())), "{name}");
        };
        expect("fingerprint", |layer| layer, key, order("k-1")).await;
        let signed = with(order("k-1"), &[("authorization", "Bearer a")], None);
        expect("fingerprint with credentials", |layer| layer, key, signed).await;
        let counted = with(order("k-1"), &[("x-a", "1"), ("x-a", "2")], None);
        let headers = |layer: Layered| layer.fingerprint(FingerprintPolicy::default().header("x-a").header("x-b"));
        expect("fingerprint with headers", headers, key, counted).await;
        let json = [("content-type", "application/json")];
        let document = with(order("k-1"), &json, Some(r#"{"\u20ac": 1.0, "a": [1e2, "\u0041"]}"#));
        let canonical = |layer: Layered| layer.fingerprint(FingerprintPolicy::canonical_json());
        expect("fingerprint of canonical JSON", canonical, key, document).await;
        expect("fingerprint of nothing", |layer| layer.fingerprint(FingerprintPolicy::none()), key, order("k-1")).await;
        let body = |layer: Layered| layer.namespace("n").key(KeySource::from(BodyHash::any_caller(WINDOW)));
        expect("fingerprint of a body hash", body, known, unnamed()).await;
        assert!(pinned.is_empty(), "no test makes {pinned:?}");
    }
}

#[tokio::test]
async fn derived_keys_are_made_as_they_ever_were() {
    for version in &VERSIONS {
        let mut pinned = pinned(version.names);
        let key = pinned["key of a text"];
        pinned.retain(|name, _| name.starts_with("derived"));
        let parts: [(&str, &[&str]); 2] =
            [("derived for stripe, charge", &["stripe", "charge"]), ("derived for nothing", &[])];
        for (name, parts) in parts {
            let (_, derived) = left(|layer| layer.namespace("orders"), order("k-1"), key, parts).await;
            assert_eq!(derived, pinned.remove(name).unwrap(), "{name}");
        }
        assert!(pinned.is_empty(), "no test makes {pinned:?}");
    }
}
