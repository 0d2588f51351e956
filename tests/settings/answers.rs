//! The layer's own answers: `on_backend_failure` and `on_rejection`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    BackendError, BackendErrorKind, BackendFailure, IdempotencyLayer, MemoryBackend, Outcome, Rejection, Run,
    testing::{Command, Fault, FaultyBackend, InnerService},
};

use crate::{around, keyed, layer, over, payment};

#[tokio::test(start_paused = true)]
async fn a_request_whose_claim_is_not_answered_is_refused_or_runs_unprotected() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let strict = IdempotencyLayer::new(backend.clone());
    let lax = strict.clone().on_backend_failure(BackendFailure::RunUnprotected);
    let inner = InnerService::answering(|parts, body| {
        assert!(parts.extensions.get::<Run>().is_none(), "a run without a claim");
        Response::builder().header("idempotent-replayed", "forged").body(Full::from(body)).unwrap()
    });
    let (strict, lax) = (over(&strict), around(&lax, inner));

    for fault in [BackendErrorKind::Unavailable, BackendErrorKind::TimedOut, BackendErrorKind::Full] {
        backend.on(Command::Claim).always(Fault::ErrorBefore(fault));
        strict.rejects(keyed("k-1"), Rejection::BackendUnavailable).await;
        for _ in 0..2 {
            let answer = lax.runs(keyed("k-1")).await;
            assert!(answer.is_marked_not_stored());
            assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"order"[..]));
        }
    }
    backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Corrupt));
    lax.rejects(keyed("k-1"), Rejection::BackendUnavailable).await;

    backend.clear();
    strict.runs(keyed("k-1")).await;
    lax.replays(keyed("k-1")).await;
}

#[tokio::test]
async fn the_layers_own_answers_are_worded_anew() {
    let worded = layer().limits(16, 1024).on_rejection(|rejection, mut answer| match rejection {
        Rejection::Mismatch => Response::new(Bytes::from_static(b"already processed")),
        _ => {
            answer.headers_mut().insert("link", "<https://example.com>; rel=\"describedby\"".parse().unwrap());
            answer
        }
    });
    let subject = over(&worded);

    // Refused before anything is read, while the body is read, and by the backend.
    for (request, rejection) in [
        (keyed("not valid"), Rejection::KeyInvalid),
        (payment(&[("idempotency-key", "k-1")], "more than sixteen bytes"), Rejection::BodyTooLarge),
    ] {
        let answer = subject.rejects(request, rejection).await;
        assert_eq!(answer.status, rejection.status());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.headers.contains_key("link"));
        assert!(answer.body.starts_with(b"{"), "the document is still there");
    }
    subject.runs(keyed("k-1")).await;
    assert!(!subject.replays(keyed("k-1")).await.headers.contains_key("link"));
    let other = payment(&[("idempotency-key", "k-1")], "another order");
    let answer = subject.rejects(other, Rejection::Mismatch).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"already processed"[..]));
    assert!(answer.headers.is_empty());
}

/// A layer outside that counts must not take it for a bypass, which has no outcome.
#[tokio::test]
async fn an_answer_that_is_worded_anew_still_says_what_was_done_and_why() {
    let say = |_, _| Response::new(Bytes::from_static(b"another response"));
    let backend = FaultyBackend::new(MemoryBackend::new());
    backend.on(Command::Claim).next(Fault::ErrorBefore(BackendErrorKind::Corrupt));
    let service = IdempotencyLayer::new(backend).require_key().on_rejection(say).layer(InnerService::new());
    for (request, rejection) in
        [(payment(&[], "an order"), Rejection::KeyMissing), (keyed("k-1"), Rejection::BackendUnavailable)]
    {
        let response = service.clone().oneshot(request).await.unwrap();
        let extensions = response.extensions();
        assert_eq!(extensions.get(), Some(&rejection));
        assert_eq!(extensions.get(), Some(&Outcome::Rejected));
        let cause: Option<&Arc<BackendError>> = extensions.get();
        assert_eq!(cause.is_some(), rejection == Rejection::BackendUnavailable);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "another response");
    }
}

/// What a layer further in refuses is worded there, and recorded nowhere.
#[tokio::test]
async fn the_answers_of_a_layer_further_in_are_left_alone() {
    let say = |text: &'static str| move |_, _| Response::new(Bytes::from_static(text.as_bytes()));
    let inner = layer().namespace("inner").require_key().cover(|parts| parts.uri.path() == "/payments");
    let inner = inner.scope(|_| None::<String>).on_rejection(say("inner")).layer(InnerService::new());
    let outer = layer().on_rejection(say("outer"));
    for _ in 0..2 {
        let response = outer.layer(inner.clone()).oneshot(keyed("k-1")).await.unwrap();
        assert_eq!(response.extensions().get(), Some(&Rejection::ScopeMissing));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "inner");
    }
}
