//! What the server is asked, statement by statement, and what it writes.

use std::time::Duration;

use http::Method;
use tower_idempotency::{
    BoxBackend, IdempotencyLayer, Rejection,
    sqlx::{Executor, PgPool, query_as},
};

use crate::{
    behaviour::support::{Client, Counting, Handler, request, serve, until},
    servers::order,
    support::{Server, backend_at},
};

/// A server, a backend over it, and what looks at the server's statistics.
async fn counted() -> (Server, BoxBackend, Statistics) {
    let server = Server::start(&[]);
    let statistics = Statistics { pool: server.pool(1), seen: Default::default() };
    statistics.pool.execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let backend = BoxBackend::new(backend_at(server.pool(5), "counted").await);
    (server, backend, statistics)
}

struct Statistics {
    pool: PgPool,
    seen: (i64, i64),
}

impl Statistics {
    /// How many statements were executed since this was asked last, and how many records of the log they wrote.
    async fn since(&mut self) -> (i64, i64) {
        let sum = "SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(wal_records), 0)::bigint
            FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";
        let now: (i64, i64) = query_as(sum).fetch_one(&self.pool).await.unwrap();
        let before = std::mem::replace(&mut self.seen, now);
        (now.0 - before.0, now.1 - before.1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_costs_two_statements_a_duplicate_one_and_a_bypass_none() {
    let (_server, backend, mut statistics) = counted().await;
    let handler = Handler::held_payments();
    let node = || async { Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await) };
    let (client, other) = (node().await, node().await);
    statistics.since().await;

    let first = tokio::spawn({
        let client = client.clone();
        async move { client.ask(order("order-1")).await }
    });
    handler.entered(1).await;
    let (statements, written) = statistics.since().await;
    assert_eq!(statements, 1, "the claim of a first request");
    assert!(written > 0);
    other.ask(order("order-1")).await.assert_is(Rejection::InProgress);
    assert_eq!(statistics.since().await, (1, 0), "a conflict, which writes nothing");
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    let (statements, written) = statistics.since().await;
    assert_eq!(statements, 1, "the record of a first request");
    assert!(written > 0);
    for node in [&client, &other] {
        node.ask(order("order-1")).await.assert_is_replay_of(1);
        assert_eq!(statistics.since().await, (1, 0), "a replay, which writes nothing");
    }

    client.ask(request(Method::PUT, "/payments", "order-1", "")).await.assert_is_first_of(2);
    let mut without_key = order("none");
    without_key.headers_mut().remove("x-idempotency-key");
    client.ask(without_key).await.assert_is_first_of(3);
    assert_eq!(statistics.since().await, (0, 0), "requests that are not guarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_heartbeat_costs_one_statement() {
    let (_server, backend, mut statistics) = counted().await;
    let (handler, backend) = (Handler::held_payments(), Counting::new(backend));
    let layer = IdempotencyLayer::new(backend.clone()).lease(Duration::from_millis(600));
    let client = Client::http1(serve(handler.router().layer(layer)).await);
    statistics.since().await;

    let first = tokio::spawn(async move { client.ask(order("order-1")).await });
    let renewals = backend.clone();
    until("the lease is renewed", move || renewals.renewals() >= 5).await;
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    let statements = 1 + backend.renewals() + 1;
    assert_eq!(statistics.since().await.0, i64::try_from(statements).unwrap(), "a claim, the heartbeats and a record");
}
