//! Whose key it is: `scope`.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Rejection, testing::InnerService};

use crate::{keyed, layer, over, payment};

fn by_account() -> IdempotencyLayer<MemoryBackend> {
    layer().scope(|parts| parts.headers.get("account").map(|account| account.as_bytes().to_vec()))
}

fn keyed_by(account: &str, token: &str) -> Request<Full<Bytes>> {
    payment(&[("idempotency-key", "k-1"), ("account", account), ("authorization", token)], "order")
}

#[tokio::test]
async fn principals_with_one_key_have_an_answer_each() {
    let subject = over(&by_account());
    let alice = subject.runs(keyed_by("alice", "t")).await;
    let bob = subject.runs(keyed_by("bob", "t")).await;
    assert_ne!(alice.body, bob.body);
    assert_eq!(subject.replays(keyed_by("alice", "t")).await.body, alice.body);
    assert_eq!(subject.replays(keyed_by("bob", "t")).await.body, bob.body);
}

#[tokio::test]
async fn a_scope_takes_the_place_of_the_credentials() {
    let subject = over(&by_account());
    subject.runs(keyed_by("alice", "first token")).await;
    subject.replays(keyed_by("alice", "rotated token")).await;

    let unscoped = over(&layer());
    unscoped.runs(keyed_by("alice", "first token")).await;
    unscoped.rejects(keyed_by("alice", "rotated token"), Rejection::CredentialsDiffer).await;
}

#[tokio::test]
async fn a_request_without_a_principal_is_refused_unless_it_has_no_key() {
    let subject = over(&by_account());
    let missing = subject.rejects(keyed("k-1"), Rejection::ScopeMissing).await;
    assert_eq!(missing.status, StatusCode::UNAUTHORIZED);
    subject.rejects(keyed_by("", "t"), Rejection::ScopeMissing).await;
    subject.runs(payment(&[], "order")).await;
}

/// A layer that is applied twice finds its own key, whoever's it is.
#[tokio::test]
async fn a_scoped_layer_that_is_applied_twice_runs_once() {
    let (layer, inner) = (by_account(), InnerService::new());
    let handler = inner.probe();
    let twice = layer.clone().layer(layer.layer(inner));
    let response = twice.oneshot(keyed_by("alice", "t")).await.unwrap();
    assert_eq!((response.status(), handler.counts().calls), (StatusCode::OK, 1));
}
