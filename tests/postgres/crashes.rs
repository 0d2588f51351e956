//! Connections that are cut, tables that stand still. The rest is in `tests/stores/`.

use tower_idempotency::{
    IdempotencyLayer,
    sqlx::{Connection, Executor, PgConnection},
};

use crate::{
    behaviour::support::Handler,
    stores::crashes::{assert_that_a_standstill_leaves_keys_free, layer_over},
    support::{Application, LONG, SHARED, Server, backend_at, fresh_name},
};

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
    let (table, handler) = (fresh_name(), Handler::payments());
    // A long lease: what is free afterwards has not been freed by its end.
    let layer = IdempotencyLayer::new(backend_at(SHARED.pool(10), &table).await).lease(LONG);
    let node = Application::start(&handler, layer).await;

    let mut other = PgConnection::connect_with(&SHARED.address()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    lock.execute(&*format!("LOCK TABLE {table}")).await.unwrap();
    let unlock = async || lock.rollback().await.unwrap();
    assert_that_a_standstill_leaves_keys_free(&node, &handler, KEYS, unlock).await;
}
