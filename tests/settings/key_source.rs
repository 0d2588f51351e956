//! Where a request carries its key: `key`.

use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
#[cfg(feature = "json")]
use tower_idempotency::FingerprintPolicy;
use tower_idempotency::{BodyHash, KeySource, Rejection, Run, testing::InnerService};

use crate::{around, layer, over, payment};

#[tokio::test]
async fn the_first_header_that_is_there_carries_the_key() {
    let source = KeySource::header("Webhook-Id").or(KeySource::header("svix-id")).or(KeySource::default());
    let subject = over(&layer().key(source));
    subject.runs(payment(&[("webhook-id", "a")], "order")).await;
    subject.replays(payment(&[("webhook-id", "\"a\"")], "order")).await;
    subject.replays(payment(&[("svix-id", "a")], "order")).await;
    subject.replays(payment(&[("idempotency-key", "a")], "order")).await;
    subject.replays(payment(&[("svix-id", "b"), ("webhook-id", "a")], "order")).await;
    subject.runs(payment(&[("svix-id", "b")], "order")).await;

    subject.rejects(payment(&[("webhook-id", "not valid")], "order"), Rejection::KeyInvalid).await;
    subject.rejects(payment(&[("svix-id", "a"), ("svix-id", "a")], "order"), Rejection::KeyAmbiguous).await;
    for _ in 0..2 {
        subject.runs(payment(&[], "order")).await;
    }
}

#[tokio::test]
async fn a_closure_finds_the_key_in_head_and_body() {
    let source = KeySource::by(|parts, body| {
        let id = std::str::from_utf8(body).ok()?.strip_prefix("id=")?;
        Some(format!("{}:{id}", parts.method))
    });
    let inner = InnerService::answering(|parts, _| {
        let key = parts.extensions.get::<Run>().map(|run| run.key().to_owned());
        Response::new(Full::from(key.unwrap_or_default()))
    });
    let strict = layer().key(source).limits(16, 1024).require_key();
    let lax = around(&layer().key(KeySource::by(|_, body| (body != b"order").then_some(body.to_vec()))), inner.clone());
    let subject = around(&strict, inner);

    assert_eq!(subject.runs(payment(&[], "id=7")).await.body, "POST:7");
    assert_eq!(subject.replays(payment(&[], "id=7")).await.body, "POST:7");
    assert_eq!(subject.runs(payment(&[], "id=8")).await.body, "POST:8");
    let digested = subject.runs(payment(&[], "id=two words")).await.body;
    assert!(digested.starts_with(b"sha256:"));
    subject.replays(payment(&[], "id=two words")).await;
    subject.rejects(payment(&[], "order"), Rejection::KeyMissing).await;
    subject.rejects(payment(&[], "id=more than sixteen bytes"), Rejection::BodyTooLarge).await;

    for _ in 0..2 {
        assert_eq!(lax.runs(payment(&[], "order")).await.body, "", "no key, no run");
    }
    lax.runs(payment(&[], "another order")).await;
    lax.replays(payment(&[], "another order")).await;
}

/// Its key comes again when the window is over, so it must not guard an effect for good.
#[tokio::test]
async fn a_handler_is_told_whether_its_request_is_known_by_its_body() {
    let inner = InnerService::answering(|parts, _| {
        let by_body = parts.extensions.get::<Run>().map(Run::is_known_by_body);
        Response::new(Full::from(format!("{by_body:?}")))
    });
    let subject = around(&layer().or_body_hash(BodyHash::any_caller(Duration::from_secs(1))), inner);
    assert_eq!(subject.runs(payment(&[], "order")).await.body, "Some(true)");
    assert_eq!(subject.runs(payment(&[("idempotency-key", "k-1")], "order")).await.body, "Some(false)");
}

/// A key from the body is found anew by a layer further in, which finds that it is claimed.
#[tokio::test]
async fn a_layer_with_keys_from_the_body_that_is_applied_twice_runs_once() {
    let layer = layer().key(KeySource::by(|_, body| Some(body.to_vec()))).scope(|_| Some("everybody"));
    let inner = InnerService::new();
    let handler = inner.probe();
    let twice = layer.clone().layer(layer.layer(inner));
    for _ in 0..2 {
        let response = twice.clone().oneshot(payment(&[], "order")).await.unwrap();
        assert_eq!((response.status(), handler.counts().calls), (StatusCode::OK, 1));
    }
}

#[cfg(feature = "json")]
#[tokio::test]
async fn a_json_pointer_finds_the_key_in_the_body() {
    let source = KeySource::header("webhook-id").or(KeySource::json_pointer("/event/id"));
    let subject = over(&layer().key(source).fingerprint(FingerprintPolicy::none()));
    subject.runs(payment(&[], r#"{"event":{"id":"e-1"},"attempt":1}"#)).await;
    subject.replays(payment(&[], r#"{"event":{"id":"e-1"},"attempt":2}"#)).await;
    subject.replays(payment(&[("webhook-id", "e-1")], "{}")).await;
    subject.runs(payment(&[], r#"{"event":{"id":"e-2"},"attempt":1}"#)).await;
    for _ in 0..2 {
        subject.runs(payment(&[], r#"{"event":{}}"#)).await;
    }

    let subject = over(&layer().key(KeySource::json_pointers(["/shop", "/order"])).require_key());
    subject.runs(payment(&[], r#"{"shop":1,"order":2}"#)).await;
    subject.replays(payment(&[], r#"{"shop":1,"order":2}"#)).await;
    subject.runs(payment(&[], r#"{"shop":2,"order":1}"#)).await;
    subject.rejects(payment(&[], r#"{"shop":1}"#), Rejection::KeyMissing).await;
}
