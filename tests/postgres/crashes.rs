//! Servers that are killed and restarted, connections that are cut, tables that stand still.

use http::{HeaderValue, StatusCode};
use tower_idempotency::{
    IdempotencyLayer, PostgresBackend, Rejection,
    sqlx::{Connection, Executor, PgConnection},
};

use crate::{
    behaviour::support::Handler,
    support::{Application, LONG, SHARED, Server, backend_at, fresh_table},
};

async fn layer_over(server: &Server) -> IdempotencyLayer<PostgresBackend> {
    IdempotencyLayer::new(backend_at(server.pool(10), "crashes").await).lease(LONG)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_before_the_run_lets_it_run_once_it_is_back() {
    let (server, handler) = (Server::start(&[]), Handler::payments());
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
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
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
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
    let node = Application::start(&handler, layer_over(&server).await).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.kill();
    handler.open();
    let answer = first.await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.headers["idempotency-stored"], HeaderValue::from_static("false"));
    server.restart();
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_are_cut_during_a_run_are_made_anew() {
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
    let node = Application::start(&handler, layer_over(&server).await).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

    let first = node.begin("order-1");
    handler.entered(1).await;
    PgConnection::connect_with(&server.address()).await.unwrap().execute(cut).await.unwrap();
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    PgConnection::connect_with(&server.address()).await.unwrap().execute(cut).await.unwrap();
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_that_stands_still_refuses_in_time_and_keys_are_free_afterwards() {
    const KEYS: usize = 100;
    let (table, handler) = (fresh_table(), Handler::payments());
    // A long lease: what is free afterwards has not been freed by its end.
    let layer = IdempotencyLayer::new(backend_at(SHARED.pool(10), &table).await).lease(LONG);
    let node = Application::start(&handler, layer).await;

    let mut other = PgConnection::connect_with(&SHARED.address()).await.unwrap();
    let mut pause = other.begin().await.unwrap();
    pause.execute(&*format!("LOCK TABLE {table}")).await.unwrap();
    let refused: Vec<_> = (0..KEYS).map(|key| node.begin(&format!("order-{key}"))).collect();
    for answer in refused {
        answer.await.unwrap().assert_is(Rejection::BackendUnavailable);
    }
    assert_eq!(handler.runs(), 0);
    pause.rollback().await.unwrap();
    for key in 0..KEYS {
        node.pay_in_the_end(&format!("order-{key}")).await;
        assert!(node.pay(&format!("order-{key}")).await.is_replay());
    }
    assert_eq!(handler.runs(), KEYS);
}
