//! Runs that take longer than their lease, and layers that share their claims.

use std::{net::SocketAddr, thread, time::Duration};

use axum::body::Body;
use http::{HeaderValue, Request, header};
use tokio::{task::JoinHandle, time::Instant};
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Answer, Client, Counting, Handler, created, payment, serve, until_some};

/// The same order, whichever server it is sent to.
fn order(key: &str) -> Request<Body> {
    let mut order = payment(key);
    order.headers_mut().insert(header::HOST, HeaderValue::from_static("example.com"));
    order
}

fn ask(server: SocketAddr) -> JoinHandle<Answer> {
    tokio::spawn(async move { Client::http1(server).ask(order("order-1")).await })
}

pub(crate) async fn a_run_that_outlives_its_lease_tenfold_runs_once(backend: BoxBackend) {
    const LEASE: Duration = Duration::from_millis(300);
    let (handler, backend) = (Handler::held_payments(), Counting::new(backend));
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend.clone()).lease(LEASE))).await;
    let [http1, http2] = Client::both(server).await;

    let first = ask(server);
    handler.entered(1).await;
    let end = Instant::now() + 10 * LEASE;
    until_some("ten leases pass", async || {
        http1.ask(order("order-1")).await.assert_is(Rejection::InProgress);
        http2.ask(order("order-1")).await.assert_is(Rejection::InProgress);
        (Instant::now() >= end).then_some(())
    })
    .await;
    assert!(backend.renewals() >= 10, "the lease was renewed {} times", backend.renewals());
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    http2.ask(order("order-1")).await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

/// From its run `first` on, blocks its thread for longer than `BLOCKED_LEASE`.
fn blocking_from(first: usize) -> Handler {
    Handler::new(move |run, _| {
        if run >= first {
            thread::sleep(Duration::from_secs(1));
        }
        created(run)
    })
}

const BLOCKED_LEASE: Duration = Duration::from_millis(600);

/// Sends duplicates until one is replayed; all before it meet a run in progress.
async fn duplicates(server: SocketAddr) -> Answer {
    until_some("the run ends", async || {
        let answer = Client::http1(server).ask(order("order-1")).await;
        if answer.is_replay() {
            return Some(answer);
        }
        answer.assert_is(Rejection::InProgress);
        None
    })
    .await
}

/// Runs `task` on a runtime of its own, which a thread blocked here cannot stall.
async fn elsewhere<F: Future<Output = ()>>(task: impl FnOnce() -> F + Send + 'static) {
    let task = || tokio::runtime::Runtime::new().unwrap().block_on(task());
    tokio::task::spawn_blocking(task).await.unwrap();
}

pub(crate) async fn a_handler_that_blocks_its_thread_runs_once(backend: BoxBackend) {
    let handler = blocking_from(1);
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend).lease(BLOCKED_LEASE))).await;

    let run = handler.clone();
    elsewhere(move || async move {
        let first = ask(server);
        run.entered(1).await;
        duplicates(server).await.assert_is_replay_of(1);
        first.await.unwrap().assert_is_first_of(1);
    })
    .await;
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn a_handler_that_blocks_its_thread_keeps_its_key_from_other_nodes(backend: BoxBackend) {
    let handler = blocking_from(1);
    let node = || handler.router().layer(IdempotencyLayer::new(backend.clone()).lease(BLOCKED_LEASE));
    let server = serve(node()).await;

    let (run, other) = (handler.clone(), node());
    elsewhere(move || async move {
        let other = serve(other).await;
        let first = ask(server);
        run.entered(1).await;
        duplicates(other).await.assert_is_replay_of(1);
        first.await.unwrap().assert_is_first_of(1);
    })
    .await;
    assert_eq!(handler.runs(), 1);
}

/// The renewer waits already, and the thread that is blocked may be the one that would have woken it.
pub(crate) async fn a_handler_that_blocks_a_thread_of_a_busy_layer_keeps_its_key(backend: BoxBackend) {
    let handler = blocking_from(2);
    let node = || handler.router().layer(IdempotencyLayer::new(backend.clone()).lease(BLOCKED_LEASE));
    let server = serve(node()).await;

    let (run, other) = (handler.clone(), node());
    elsewhere(move || async move {
        let other = serve(other).await;
        // One connection: its next request comes to the thread that waits for events, and no other one is woken.
        let [_, client] = Client::both(server).await;
        client.ask(order("order-0")).await.assert_is_first_of(1);
        let first = tokio::spawn(async move { client.ask(order("order-1")).await });
        run.entered(2).await;
        duplicates(other).await.assert_is_replay_of(2);
        first.await.unwrap().assert_is_first_of(2);
    })
    .await;
    assert_eq!(handler.runs(), 2);
}

pub(crate) async fn a_layer_that_is_applied_twice_runs_once(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let layer = IdempotencyLayer::new(backend);
    let server = serve(handler.router().layer(layer.clone()).layer(layer)).await;

    let first = ask(server);
    handler.entered(1).await;
    ask(server).await.unwrap().assert_is(Rejection::InProgress);
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    ask(server).await.unwrap().assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn clones_of_a_layer_share_their_claims(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let layer = IdempotencyLayer::new(backend);
    let one = serve(handler.router().layer(layer.clone())).await;
    let other = serve(handler.router().layer(layer)).await;

    let first = ask(one);
    handler.entered(1).await;
    ask(other).await.unwrap().assert_is(Rejection::InProgress);
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    ask(other).await.unwrap().assert_is_replay_of(1);
    ask(one).await.unwrap().assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}
