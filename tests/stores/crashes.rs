//! Servers that are killed, restarted, or stand still.

use http::StatusCode;
use tower_idempotency::{IdempotencyLayer, Rejection};

use crate::{
    behaviour::support::Handler,
    support::{
        Application, LONG, Server,
        store::{Store, backend_over, durable},
    },
};

/// Layers over one server share what is stored. What happens in time does not happen because a lease has ended.
pub(crate) async fn layer_over(server: &Server) -> IdempotencyLayer<Store> {
    IdempotencyLayer::new(backend_over(server, "crashes").await).lease(LONG)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_before_the_run_lets_it_run_once_it_is_back() {
    let (server, handler) = (durable(), Handler::payments());
    let node = Application::start(&handler, layer_over(&server).await).await;
    node.pay("order-0").await.assert_is_first_of(1);

    server.kill();
    node.pay("order-1").await.assert_is(Rejection::BackendUnavailable);
    node.pay("order-0").await.assert_is(Rejection::BackendUnavailable);
    assert_eq!(handler.runs(), 1);
    server.restart();
    node.pay_in_the_end("order-1").await.assert_is_first_of(2);
    node.pay("order-1").await.assert_is_replay_of(2);
    node.pay("order-0").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_and_restarted_during_the_run_records_it() {
    let (server, handler) = (durable(), Handler::held_payments());
    let node = Application::start(&handler, layer_over(&server).await).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.kill();
    server.restart();
    // The claim has survived.
    let refused = node.pay("order-1").await.status;
    assert!([StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE].contains(&refused), "{refused}");
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_comes_back_after_the_run_records_it_then() {
    let (server, handler) = (durable(), Handler::held_payments());
    let node = Application::start(&handler, layer_over(&server).await).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.kill();
    handler.open();
    first.await.unwrap().assert_is_unstored_of(1);
    server.restart();
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_after_the_run_replays_it() {
    let (server, handler) = (durable(), Handler::payments());
    let node = Application::start(&handler, layer_over(&server).await).await;
    node.pay("order-1").await.assert_is_first_of(1);

    server.kill();
    server.restart();
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

/// Over a store that stands still until `resume`: payments with so many keys are refused in time, and made once afterwards.
pub(crate) async fn assert_that_a_standstill_leaves_keys_free(
    node: &Application,
    handler: &Handler,
    keys: usize,
    resume: impl AsyncFnOnce(),
) {
    let before = handler.runs();
    let refused: Vec<_> = (0..keys).map(|key| node.begin(&format!("order-{key}"))).collect();
    for answer in refused {
        answer.await.unwrap().assert_is(Rejection::BackendUnavailable);
    }
    assert_eq!(handler.runs(), before);
    resume().await;
    for key in 0..keys {
        node.pay_in_the_end(&format!("order-{key}")).await;
        assert!(node.pay(&format!("order-{key}")).await.is_replay());
    }
    assert_eq!(handler.runs(), before + keys);
}
