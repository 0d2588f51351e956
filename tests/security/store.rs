//! What somebody who can write to the store makes of it: what is noticed, and what is not.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use tower_idempotency::{
    Backend, Entry, Fingerprint, IdempotencyLayer, Key, MemoryBackend, Ownership, Record, Rejection, Token,
};

use crate::{
    order,
    support::{Client, Handler, serve},
    user,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

pub(crate) async fn bytes_under(backend: &MemoryBackend, text: &str) -> Vec<u8> {
    record_at(backend, Key::new("", text)).await.to_bytes().to_vec()
}

async fn record_at(backend: &MemoryBackend, key: Key) -> Record {
    match backend.get(&key).await.unwrap() {
        Some(Entry::Completed(record)) => record,
        other => panic!("no record but {other:?}"),
    }
}

/// Puts `record` where nothing is.
async fn plant(backend: &MemoryBackend, key: Key, record: &Record) {
    assert_eq!(backend.complete(&key, Token::random(), record, DAY).await.unwrap(), Ownership::Held);
}

fn order_2(lines: &[(&'static str, &'static str)], body: &'static str) -> Request<Body> {
    let mut order = order(lines, body);
    order.headers_mut().insert("x-idempotency-key", "order-2".parse().unwrap());
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_was_moved_to_another_key_answers_no_other_request() {
    let (handler, backend) = (Handler::payments(), MemoryBackend::new());
    let client = Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await);
    let (alice, bob) = ([("authorization", "Bearer alice")], [("authorization", "Bearer bob")]);
    client.ask(order(&alice, "12")).await.assert_is_first_of(1);
    plant(&backend, Key::new("", "order-2"), &record_at(&backend, Key::new("", "order-1")).await).await;

    client.ask(order_2(&bob, "12")).await.assert_is(Rejection::CredentialsDiffer);
    client.ask(order_2(&[], "12")).await.assert_is(Rejection::CredentialsDiffer);
    client.ask(order_2(&alice, "13")).await.assert_is(Rejection::Mismatch);
    // What is not noticed: the same request of the same caller, meant to be done once more.
    client.ask(order_2(&alice, "12")).await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

/// The scope is in the key alone. What notices this is a record that is bound to its key: the guide to encryption.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_was_moved_to_another_principal_answers_an_equal_request() {
    let (handler, backend) = (Handler::payments(), MemoryBackend::new());
    let scoped = IdempotencyLayer::new(backend.clone()).scope(user);
    let client = Client::http1(serve(handler.router().layer(scoped)).await);
    client.ask(order(&[("user", "alice")], "12")).await.assert_is_first_of(1);
    let record = record_at(&backend, Key::scoped("", "alice", "order-1")).await;
    plant(&backend, Key::scoped("", "bob", "order-1"), &record).await;

    client.ask(order(&[("user", "bob")], "13")).await.assert_is(Rejection::Mismatch);
    client.ask(order(&[("user", "bob")], "12")).await.assert_is_replay_of(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_was_planted_without_knowing_the_request_answers_nobody() {
    let (handler, backend) = (Handler::payments(), MemoryBackend::new());
    let client = Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await);
    client.ask(order_2(&[], "12")).await.assert_is_first_of(1);
    let genuine = record_at(&backend, Key::new("", "order-2")).await;

    let key = Key::new("", "order-1");
    for fingerprint in [Fingerprint::of(""), Fingerprint::from_bytes([0; Fingerprint::LEN])] {
        let mut response = genuine.to_bytes().to_vec();
        response[2..2 + Fingerprint::LEN].copy_from_slice(&fingerprint.to_bytes());
        let response = Record::from_bytes(response.into()).unwrap();
        for planted in [response, Record::value(&fingerprint, b"forged"), Record::tombstone(&fingerprint)] {
            plant(&backend, key, &planted).await;
            client.ask(order(&[], "12")).await.assert_is(Rejection::Mismatch);
            assert!(backend.remove(&key).await.unwrap());
        }
    }
    // With the fingerprint, but not a response: nothing of it is shown.
    plant(&backend, key, &Record::value(&genuine.fingerprint(), b"forged")).await;
    client.ask(order(&[], "12")).await.assert_is(Rejection::NotKept);
    assert_eq!(handler.runs(), 1);
}
