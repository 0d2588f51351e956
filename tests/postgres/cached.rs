//! `CachedBackend` in front of PostgreSQL.

use std::sync::Arc;

use tower_idempotency::{
    BoxBackend, CachedBackend, IdempotencyLayer, MemoryBackend, PostgresBackend, testing::conformance,
};

use crate::{
    behaviour::support::{Client, Handler, serve},
    servers::order,
    support::{Fate, Proxy, SHARED, backend_at, fresh_backend, fresh_table, patient},
};

fn cached(postgres: PostgresBackend) -> CachedBackend<PostgresBackend> {
    CachedBackend::new(MemoryBackend::new(), postgres)
}

mod http {
    suite!(tower_idempotency::BoxBackend::new(crate::cached::cached(crate::support::fresh_backend().await)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_laws_are_kept() {
    let backend = cached(patient(fresh_backend().await));
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replay_costs_no_statement_where_the_record_was_seen() {
    let proxy = Arc::new(Proxy::start(&SHARED, |_| Fate::Pass).await);
    let table = fresh_table();
    backend_at(SHARED.pool(1), &table).await;
    let (first, second) = (Handler::payments(), Handler::payments());
    let mut clients = Vec::new();
    for handler in [&first, &second] {
        let backend = BoxBackend::new(cached(PostgresBackend::new(proxy.pool(5)).table(&table)));
        clients.push(Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend))).await));
    }
    let statements = || proxy.count(|_| true);

    clients[0].ask(order("order-1")).await.assert_is_first_of(1);
    assert_eq!(statements(), 2);
    clients[0].ask(order("order-1")).await.assert_is_replay_of(1);
    assert_eq!(statements(), 2, "it was completed here");
    for _ in 0..3 {
        clients[1].ask(order("order-1")).await.assert_is_replay_of(1);
        assert_eq!(statements(), 3, "it was read once on the other node");
    }
}
