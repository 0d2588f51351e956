//! Requests without a key, known by what they say: `or_body_hash`.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_idempotency::{BodyHash, IdempotencyLayer, KeySource, MemoryBackend, Rejection, Run, testing::InnerService};

use crate::{
    around, keyed, layer, over, payment,
    record::{answering, obedient},
};

pub(crate) const WINDOW: Duration = Duration::from_secs(10);

pub(crate) fn hashing(hash: BodyHash) -> IdempotencyLayer<MemoryBackend> {
    layer().or_body_hash(hash).limits(64, 1024)
}

#[tokio::test]
async fn a_request_without_a_key_is_known_by_target_and_body() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    let order = || payment(&[], "order");
    subject.runs(order()).await;
    subject.replays(order()).await;
    subject.replays(payment(&[("authorization", "a"), ("cookie", "b"), ("x-attempt", "2")], "order")).await;

    subject.runs(payment(&[], "another order")).await;
    for uri in ["http://example.com/payments", "http://localhost/refunds", "http://localhost/payments?a=1"] {
        let mut elsewhere = order();
        *elsewhere.uri_mut() = uri.parse().unwrap();
        subject.runs(elsewhere.clone()).await;
        subject.replays(elsewhere).await;
    }
    let mut patch = order();
    *patch.method_mut() = Method::PATCH;
    subject.runs(patch).await;
    let mut put = order();
    *put.method_mut() = Method::PUT;
    subject.runs(put.clone()).await;
    subject.runs(put).await;
}

#[tokio::test]
async fn body_hashes_of_two_callers_are_two_requests() {
    let subject = over(&hashing(BodyHash::per_caller(WINDOW)));
    let callers: [&[(&str, &str)]; 6] = [
        &[("authorization", "alice")],
        &[("authorization", "bob")],
        &[("cookie", "alice")],
        &[("cookie", "bob")],
        &[("authorization", "alice"), ("cookie", "bob")],
        &[("authorization", "bob"), ("cookie", "alice")],
    ];
    for caller in callers {
        subject.runs(payment(caller, "order")).await;
    }
    for (run, caller) in (1..).zip(callers) {
        assert_eq!(subject.replays(payment(caller, "order")).await.body, format!("{run}"));
    }
    subject.runs(payment(&[("cookie", "a=1; b=2")], "order")).await;
    subject.replays(payment(&[("cookie", "a=1"), ("cookie", "b=2")], "order")).await;
}

/// Two strangers never share an answer.
#[tokio::test]
async fn body_hashes_of_callers_that_cannot_be_told_apart_run_each_time() {
    let subject = over(&hashing(BodyHash::per_caller(WINDOW)));
    let strangers: [&[(&str, &str)]; 4] =
        [&[], &[("authorization", "")], &[("cookie", " ")], &[("authorization", ""), ("cookie", "")]];
    for stranger in strangers {
        for _ in 0..2 {
            subject.runs(payment(stranger, "order")).await;
        }
    }
}

#[tokio::test]
async fn body_hashes_are_kept_for_each_principal() {
    for hash in [BodyHash::per_caller(WINDOW), BodyHash::any_caller(WINDOW)] {
        let subject = over(&hashing(hash).scope(|parts| Some(parts.headers.get("account")?.to_str().ok()?.to_owned())));
        let order = |account, token| payment(&[("account", account), ("authorization", token)], "order");
        subject.runs(order("alice", "first token")).await;
        subject.replays(order("alice", "rotated token")).await;
        subject.runs(order("bob", "first token")).await;
        subject.replays(order("bob", "first token")).await;
        for _ in 0..2 {
            subject.runs(order("", "first token")).await;
            subject.runs(payment(&[("authorization", "first token")], "order")).await;
        }
    }
}

/// A key that is there counts, and nobody can claim with it what another will send without one.
#[tokio::test]
async fn a_key_outweighs_the_body_hash_and_never_meets_it() {
    let inner = InnerService::answering(|parts, _| {
        Response::new(Full::from(parts.extensions.get::<Run>().unwrap().key().to_owned()))
    });
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), inner);
    let hash = subject.runs(payment(&[], "order")).await.body;
    assert!(hash.starts_with(b"sha256:"));
    assert_eq!(subject.runs(keyed("k-1")).await.body, "k-1");
    subject.runs(keyed(std::str::from_utf8(&hash).unwrap())).await;
    assert_eq!(subject.replays(payment(&[], "order")).await.body, hash);
}

#[tokio::test]
async fn a_body_hash_alone_takes_no_notice_of_keys() {
    let subject = over(&layer().key(BodyHash::any_caller(WINDOW)));
    subject.runs(keyed("k-1")).await;
    subject.replays(keyed("k-2")).await;
    let both = over(&layer().or_body_hash(BodyHash::any_caller(WINDOW)).key(KeySource::header("webhook-id")));
    both.runs(payment(&[("webhook-id", "a")], "order")).await;
    both.runs(payment(&[], "order")).await;
    both.replays(payment(&[], "order")).await;
}

#[tokio::test]
async fn cookies_are_not_recorded_where_bodies_are_hashed() {
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), obedient());
    for _ in 0..2 {
        let answer = subject.runs(payment(&[], "200")).await;
        assert!(answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("idempotent-replayed"));
    }
    subject.runs(answering("200")).await;
    subject.replays(answering("200")).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_hash_lives_for_its_window_and_a_key_for_the_retention() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    subject.runs(payment(&[], "order")).await;
    subject.runs(keyed("k-1")).await;
    tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
    subject.replays(payment(&[], "order")).await;
    tokio::time::advance(Duration::from_millis(2)).await;
    subject.runs(payment(&[], "order")).await;
    subject.replays(keyed("k-1")).await;
}

/// The handler may insist on its key, but not on the record of a cookie.
#[tokio::test]
async fn a_kept_response_with_a_cookie_leaves_a_tombstone() {
    let inner = InnerService::answering(|parts, _| {
        parts.extensions.get::<Run>().expect("a run").keep();
        Response::builder().header("set-cookie", "session=1").body(Full::<Bytes>::from("for one")).unwrap()
    });
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), inner);
    let first = subject.runs(payment(&[], "order")).await;
    assert!(first.headers.contains_key("set-cookie"));
    subject.rejects(payment(&[], "order"), Rejection::NotKept).await;
}

/// Whoever sends a body without a key could make nothing of a conflict.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_running_is_waited_for() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    subject.handler.hold();
    let first = tokio::spawn(subject.service.clone().oneshot(payment(&[], "order")));
    subject.handler.arrived(1).await;
    let second = tokio::spawn(subject.service.clone().oneshot(payment(&[], "order")));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!second.is_finished());
    subject.handler.open_all();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(second.await.unwrap().unwrap().headers().contains_key("idempotent-replayed"));
    assert_eq!(subject.handler.counts().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_runs_for_too_long_is_in_progress() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    subject.handler.hold();
    let first = tokio::spawn(subject.service.clone().oneshot(payment(&[], "order")));
    subject.handler.arrived(1).await;
    subject.rejects(payment(&[], "order"), Rejection::InProgress).await;
    subject.handler.open_all();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_layer_with_body_hashes_that_is_applied_twice_runs_once() {
    let (layer, inner) = (hashing(BodyHash::any_caller(WINDOW)), InnerService::new());
    let handler = inner.probe();
    let twice = layer.clone().layer(layer.layer(inner));
    for _ in 0..2 {
        let response = twice.clone().oneshot(payment(&[], "order")).await.unwrap();
        assert_eq!((response.status(), handler.counts().calls), (StatusCode::OK, 1));
    }
}
