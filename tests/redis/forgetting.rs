//! Servers that are full, or that forget.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tower_idempotency::{
    Backend, BackendErrorKind, BoxBackend, Claim, Fingerprint, IdempotencyLayer, Key, Rejection, Token,
};

use crate::{
    behaviour::support::{Counting, Handler, until},
    support::{Application, LONG, Server, backend_at},
};

/// A server that evicts nothing.
fn bounded() -> Server {
    Server::start(&["maxmemory-policy noeviction"])
}

impl Server {
    /// Leaves no memory for anything new.
    fn fill(&self) {
        self.ask::<()>("CONFIG SET maxmemory 1");
    }

    fn make_room(&self) {
        self.ask::<()>("CONFIG SET maxmemory 0");
    }
}

async fn backend(server: &Server) -> tower_idempotency::RedisBackend {
    backend_at(&server.url(), "forgetting:").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_server_replays_and_refuses_what_is_new() {
    let (server, handler) = (bounded(), Handler::payments());
    let node = Application::start(&handler, IdempotencyLayer::new(backend(&server).await)).await;
    node.pay("order-1").await.assert_is_first_of(1);

    server.fill();
    node.pay("order-2").await.assert_is(Rejection::BackendUnavailable);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
    server.make_room();
    node.pay("order-2").await.assert_is_first_of(2);
    node.pay("order-1").await.assert_is_replay_of(1);
    node.pay("order-2").await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_on_a_full_server_finds_what_is_there() {
    let server = bounded();
    let backend = backend(&server).await;
    let (key, token, of) = (Key::new("", "order-1"), Token::random(), Fingerprint::of("order-1"));
    let claim = async |token| backend.claim(&key, token, &of, LONG).await.map_err(|error| error.kind());
    server.fill();
    assert_eq!(claim(token).await, Err(BackendErrorKind::Full));
    server.make_room();
    assert_eq!(claim(token).await, Ok(Claim::Acquired));
    server.fill();
    assert_eq!(claim(token).await, Ok(Claim::Acquired), "as when its reply was lost");
    assert_eq!(claim(Token::random()).await, Ok(Claim::InProgress { fingerprint: of }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_full_when_the_run_ends_is_admitted_to() {
    let (server, handler) = (bounded(), Handler::held_payments());
    let node = Application::start(&handler, IdempotencyLayer::new(backend(&server).await).lease(LONG)).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.fill();
    handler.open();
    let answer = first.await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.headers["idempotency-stored"], HeaderValue::from_static("false"));
    node.pay("order-1").await.assert_is(Rejection::InProgress);
    server.make_room();
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_server_keeps_the_leases_of_live_runs() {
    let (server, handler) = (bounded(), Handler::held_payments());
    let counting = Counting::new(BoxBackend::new(backend(&server).await));
    let layer = IdempotencyLayer::new(counting.clone()).lease(Duration::from_millis(600));
    let node = Application::start(&handler, layer).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.fill();
    let renewals = counting.renewals();
    until("two leases pass", move || counting.renewals() >= renewals + 6).await;
    server.make_room();
    node.pay("order-1").await.assert_is(Rejection::InProgress);
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_server_takes_keys_back() {
    let (server, handler) = (bounded(), Handler::held_payments());
    let layer = IdempotencyLayer::new(backend(&server).await).lease(LONG);
    let node = Application::failing(&handler, layer).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.fill();
    handler.open();
    assert_eq!(first.await.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
    server.make_room();
    assert_eq!(node.pay("order-1").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_was_flushed_is_made_again() {
    let (server, handler) = (Server::start(&[]), Handler::payments());
    let node = Application::start(&handler, IdempotencyLayer::new(backend(&server).await)).await;
    node.pay("order-1").await.assert_is_first_of(1);

    server.ask::<()>("FLUSHALL");
    node.pay("order-1").await.assert_is_first_of(2);
    node.pay("order-1").await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_whose_claim_was_flushed_is_recorded_if_nobody_took_over() {
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
    let node = Application::start(&handler, IdempotencyLayer::new(backend(&server).await)).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.ask::<()>("FLUSHALL");
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_runs_whose_claims_were_flushed_one_is_recorded() {
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
    let node = Application::start(&handler, IdempotencyLayer::new(backend(&server).await)).await;
    let other = Application::start(&handler, IdempotencyLayer::new(backend(&server).await)).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.ask::<()>("FLUSHALL");
    let second = other.begin("order-1");
    handler.entered(2).await;
    handler.open();
    second.await.unwrap().assert_is_first_of(2);
    let answer = first.await.unwrap();
    if answer.status == StatusCode::CONFLICT {
        answer.assert_is(Rejection::InProgress);
    } else {
        answer.assert_is_replay_of(2);
    }
    node.pay("order-1").await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}
