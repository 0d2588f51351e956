//! What runs unrecorded where bodies are hashed.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, channel::Channel};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    BackendErrorKind, BodyHash, IdempotencyLayer, MemoryBackend, Rejection,
    testing::{Command, Fault, FaultyBackend, InnerService},
};

use crate::{
    around,
    body_hash::{WINDOW, hashing},
    keyed, over, payment,
};

#[tokio::test]
async fn empty_bodies_and_grpc_run_each_time_where_bodies_are_hashed() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    for _ in 0..2 {
        subject.runs(payment(&[], "")).await;
        subject.runs(payment(&[("content-type", "application/grpc")], "order")).await;
        subject.runs(payment(&[("content-type", "application/grpc+proto")], "order")).await;
    }
}

/// Echoes the length of the body.
fn measuring() -> InnerService {
    InnerService::answering(|_, body| Response::new(Full::from(body.len().to_string())))
}

#[tokio::test]
async fn a_body_above_the_limit_arrives_whole_where_bodies_are_hashed() {
    const LONG: &str = "123456789 123456789 123456789 123456789 123456789 123456789 123456789";
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), measuring());
    for _ in 0..2 {
        assert_eq!(subject.runs(payment(&[], LONG)).await.body, "69");
        assert_eq!(subject.runs(payment(&[("content-length", "69")], LONG)).await.body, "69");
    }
    subject.rejects(payment(&[("idempotency-key", "k-1")], LONG), Rejection::BodyTooLarge).await;
}

/// In pieces, of which the limit cuts one in two.
#[tokio::test]
async fn a_stream_above_the_limit_arrives_whole_where_bodies_are_hashed() {
    let inner = InnerService::answering(|_, body| Response::new(Full::from(body)));
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    for run in 1..=2 {
        let (mut pieces, body) = Channel::<Bytes>::new(1);
        let request = Request::post("http://localhost/payments").body(body).unwrap();
        let answer = tokio::spawn(service.clone().oneshot(request));
        for piece in 0..10_u8 {
            pieces.send_data(Bytes::from(vec![piece; 30])).await.unwrap();
        }
        drop(pieces);
        let echo = answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(echo, (0..10_u8).flat_map(|piece| [piece; 30]).collect::<Vec<_>>());
        assert_eq!(handler.counts().calls, run);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_reaches_the_handler_while_it_arrives_where_bodies_are_hashed() {
    let inner = measuring();
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    let (mut pieces, body) = Channel::<Bytes>::new(1);
    let request = Request::post("http://localhost/payments").body(body).unwrap();
    let answer = tokio::spawn(service.oneshot(request));
    pieces.send_data(Bytes::from_static(b"first ")).await.unwrap();
    handler.when(|counts| counts.calls == 1).await;
    pieces.send_data(Bytes::from_static(b"second")).await.unwrap();
    drop(pieces);
    let answer = answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, "12");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_not_waited_for_where_bodies_are_hashed() {
    let inner = measuring();
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    let (mut pieces, body) = Channel::<Bytes>::new(1);
    let request = Request::post("http://localhost/payments").header("content-length", "65").body(body).unwrap();
    let answer = tokio::spawn(service.oneshot(request));
    handler.when(|counts| counts.calls == 1).await;
    pieces.send_data(Bytes::from(vec![0; 65])).await.unwrap();
    drop(pieces);
    assert_eq!(answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes(), "65");
}

/// A handler must not take a part of a body for the whole.
#[tokio::test]
async fn a_body_that_fails_does_not_run_where_bodies_are_hashed() {
    let inner = measuring();
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(2);
    let request = Request::post("http://localhost/payments").body(body).unwrap();
    pieces.send_data(Bytes::from_static(b"part")).await.unwrap();
    pieces.abort(std::io::Error::other("reset"));
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Rejection::BodyUnreadable));
    assert_eq!(handler.counts().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn where_bodies_are_hashed_they_run_also_without_the_backend() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let subject = over(&IdempotencyLayer::new(backend.clone()).or_body_hash(BodyHash::any_caller(WINDOW)));
    backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    for _ in 0..2 {
        assert!(subject.runs(payment(&[], "order")).await.is_marked_not_stored());
    }
    subject.rejects(keyed("k-1"), Rejection::BackendUnavailable).await;
}
