//! The backend of the guide `docs/guide/encryption.md`: it keeps the laws and its secrets, and the guide shows it as it is.
#![cfg(all(feature = "memory", feature = "test-util"))]

#[path = "../examples/encryption/encrypted.rs"]
mod encrypted;

use std::time::Duration;

use bytes::Bytes;
use chacha20poly1305::{Key as Secret, aead::Generate};
use encrypted::EncryptedBackend;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, BackendErrorKind, CachedBackend, Entry, Fingerprint, IdempotencyLayer, Key, MemoryBackend, Ownership,
    Record, Token,
    testing::{InnerService, Probe, conformance},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PRIVATE: &str = "card 4242 4242 4242 4242";

fn encrypted(store: &MemoryBackend, write: (u32, Secret)) -> EncryptedBackend<MemoryBackend> {
    EncryptedBackend::new(store.clone(), write, &[])
}

fn secret(id: u32) -> (u32, Secret) {
    (id, Secret::generate())
}

fn key(text: &str) -> Key {
    Key::new("", text)
}

fn record() -> Record {
    Record::value(&Fingerprint::of("a request"), PRIVATE.as_bytes())
}

/// A store with the record under `k-1`.
async fn written_with(secret: (u32, Secret)) -> MemoryBackend {
    let store = MemoryBackend::new();
    put(&encrypted(&store, secret), "k-1", &record()).await;
    store
}

async fn put(backend: &impl Backend, at: &str, record: &Record) {
    let ownership = backend.complete(&key(at), Token::random(), record, DAY).await.unwrap();
    assert_eq!(ownership, Ownership::Held);
}

/// What is stored, as it is.
async fn stored(store: &MemoryBackend, at: &str) -> Record {
    match store.get(&key(at)).await.unwrap() {
        Some(Entry::Completed(record)) => record,
        other => panic!("{other:?}"),
    }
}

/// By every command that could hand out the record.
async fn assert_refused(backend: &impl Backend, at: &str) {
    let key = key(at);
    let claim = backend.claim(&key, Token::random(), &Fingerprint::of("a request"), DAY).await.map(drop);
    let get = backend.get(&key).await.map(drop);
    let wait = backend.wait(&key, Instant::now()).await.map(drop);
    for answer in [claim, get, wait] {
        assert_eq!(answer.unwrap_err().kind(), BackendErrorKind::Corrupt);
    }
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_backend_keeps_the_laws() {
    let (store, secret) = (MemoryBackend::new(), secret(1));
    conformance(|| async { encrypted(&store, secret) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_cached_encrypted_backend_keeps_the_laws() {
    let secret = secret(1);
    conformance(|| async { CachedBackend::new(MemoryBackend::new(), encrypted(&MemoryBackend::new(), secret)) }).await;
}

#[tokio::test]
async fn nothing_of_a_record_can_be_read_in_the_store() {
    let secret = secret(1);
    let store = written_with(secret).await;
    let bytes = stored(&store, "k-1").await.to_bytes();
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(!contains(&PRIVATE.as_bytes()[..8]));
    assert!(!contains(&record().fingerprint().to_bytes()[..8]));
    let backend = encrypted(&store, secret);
    assert_eq!(backend.get(&key("k-1")).await.unwrap(), Some(Entry::Completed(record())));
    assert!(backend.is_local(), "as the one inside it");
}

#[tokio::test]
async fn equal_records_look_different_in_the_store() {
    let secret = secret(1);
    let store = written_with(secret).await;
    put(&encrypted(&store, secret), "k-2", &record()).await;
    assert_ne!(stored(&store, "k-1").await, stored(&store, "k-2").await);
}

#[tokio::test]
async fn a_record_that_is_copied_under_another_key_is_refused() {
    let secret = secret(1);
    let store = written_with(secret).await;
    put(&store, "k-2", &stored(&store, "k-1").await).await;
    assert_refused(&encrypted(&store, secret), "k-2").await;
}

#[tokio::test]
async fn a_record_of_which_one_bit_is_changed_is_refused() {
    let secret = secret(1);
    let store = written_with(secret).await;
    let sealed = stored(&store, "k-1").await.as_value().unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        let store = MemoryBackend::new();
        put(&store, "k-1", &Record::value(&Fingerprint::of(""), &changed)).await;
        assert_refused(&encrypted(&store, secret), "k-1").await;
    }
    for length in [0, 3, 4, 27, 28, 43, sealed.len() - 1] {
        let store = MemoryBackend::new();
        put(&store, "k-1", &Record::value(&Fingerprint::of(""), &sealed[..length])).await;
        assert_refused(&encrypted(&store, secret), "k-1").await;
    }
}

#[tokio::test]
async fn after_a_rotation_old_records_are_read_and_new_ones_written_with_the_new_key() {
    let (old, new) = (secret(1), secret(2));
    let store = written_with(old).await;
    let rotated = EncryptedBackend::new(store.clone(), new, &[old]);
    assert_eq!(rotated.get(&key("k-1")).await.unwrap(), Some(Entry::Completed(record())));
    put(&rotated, "k-2", &record()).await;

    let without_old = encrypted(&store, new);
    assert_eq!(without_old.get(&key("k-2")).await.unwrap(), Some(Entry::Completed(record())));
    assert_refused(&without_old, "k-1").await;
    // Nodes that only read with the new key yet.
    let before = EncryptedBackend::new(store, old, &[new]);
    assert_eq!(before.get(&key("k-2")).await.unwrap(), Some(Entry::Completed(record())));
}

#[tokio::test]
async fn another_key_with_the_same_id_reads_nothing() {
    let store = written_with(secret(1)).await;
    assert_refused(&encrypted(&store, secret(1)), "k-1").await;
}

async fn pay(backend: impl Backend, at: &str) -> (StatusCode, Bytes, Probe) {
    let inner = InnerService::answering(|_, _| Response::new(Full::from(PRIVATE)));
    let probe = inner.probe();
    let request = Request::post("http://localhost/payments").header("idempotency-key", at);
    let request = request.body(Full::<Bytes>::from("12")).unwrap();
    let response = IdempotencyLayer::new(backend).layer(inner).oneshot(request).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes(), probe)
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_record_was_swapped_gets_503_and_does_not_run() {
    let (store, secret) = (MemoryBackend::new(), secret(1));
    let (status, body, probe) = pay(encrypted(&store, secret), "ann").await;
    assert_eq!((status, &body[..], probe.counts().started), (StatusCode::OK, PRIVATE.as_bytes(), 1));
    let (status, body, probe) = pay(encrypted(&store, secret), "ann").await;
    assert_eq!((status, &body[..], probe.counts().started), (StatusCode::OK, PRIVATE.as_bytes(), 0));

    let moved = stored(&store, "ann").await;
    put(&store, "bob", &moved).await;
    let (status, body, probe) = pay(encrypted(&store, secret), "bob").await;
    assert_eq!((status, probe.counts().started), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert!(!body.windows(4).any(|window| window == b"4242"));
    assert_eq!(stored(&store, "bob").await, moved, "what cannot be read is left as it is");
}

#[tokio::test(start_paused = true)]
async fn records_from_before_the_encryption_are_refused() {
    let (store, secret) = (MemoryBackend::new(), secret(1));
    let (status, ..) = pay(store.clone(), "ann").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, probe) = pay(encrypted(&store, secret), "ann").await;
    assert_eq!((status, probe.counts().started), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_refused(&encrypted(&store, secret), "ann").await;
}

const GUIDE: &str = include_str!("../docs/guide/encryption.md");

#[test]
fn the_guide_shows_the_backend_line_by_line() {
    let open = |text: &'static str| text.split_once("\n```\n").expect("a block ends").0;
    let blocks: Vec<_> = GUIDE.split("```rust\n").skip(1).map(open).collect();
    let (shown, example) = (blocks.join("\n\n"), include_str!("../examples/encryption/encrypted.rs"));
    for (number, (shown, is)) in (1..).zip(shown.lines().zip(example.lines())) {
        assert_eq!(shown, is, "line {number} of encrypted.rs");
    }
    assert_eq!(shown.clone() + "\n", example);
    assert!(shown.lines().count() <= 100, "the guide says 100 lines");
}

/// What the guide shows around the backend.
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "it is compiled, and needs a server to run")]
async fn as_the_guide_shows(new_secret: Secret, old_secret: Secret) -> Result<(), tower_idempotency::BackendError> {
    use tower_idempotency::RedisBackend;

    let redis = RedisBackend::connect("redis://127.0.0.1/").await?;
    let encrypted = EncryptedBackend::new(redis, (2, new_secret), &[(1, old_secret)]);
    let layer = IdempotencyLayer::new(CachedBackend::new(MemoryBackend::new(), encrypted));
    drop(layer);
    Ok(())
}

#[test]
fn the_guide_shows_how_it_is_used_as_it_is_compiled_here() {
    let (_, shown) = GUIDE.split_once("```rust,no_run\n").expect("the guide shows a layer");
    let shown = shown.lines().take_while(|line| *line != "```").map(|line| format!("    {line}\n"));
    assert!(include_str!("encryption.rs").contains(&shown.collect::<String>()));
}
