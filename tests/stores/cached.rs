//! `CachedBackend` in front of the store.

use std::sync::Arc;

use tower_idempotency::{BoxBackend, CachedBackend, IdempotencyLayer, MemoryBackend, testing::conformance};

use crate::{
    behaviour::support::{Client, Handler, serve},
    servers::order,
    support::{
        Fate, Proxy, SHARED, fresh_backend, fresh_name, patient,
        store::{Store, backend_behind},
    },
};

fn cached(store: Store) -> CachedBackend<Store> {
    CachedBackend::new(MemoryBackend::new(), store)
}

mod http {
    suite!(tower_idempotency::BoxBackend::new(super::super::cached(crate::support::fresh_backend().await)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_laws_are_kept() {
    let backend = cached(patient(fresh_backend().await));
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replay_asks_the_store_for_nothing_where_the_record_was_seen() {
    let proxy = Arc::new(Proxy::start(&SHARED, |_| Fate::Pass).await);
    let name = fresh_name();
    let (first, second) = (Handler::payments(), Handler::payments());
    let mut clients = Vec::new();
    for handler in [&first, &second] {
        let backend = BoxBackend::new(cached(backend_behind(&proxy, &name).await));
        clients.push(Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend))).await));
    }
    let sent = || proxy.count(|_| true);

    let before = sent();
    clients[0].ask(order("order-1")).await.assert_is_first_of(1);
    assert_eq!(sent() - before, 2);
    clients[0].ask(order("order-1")).await.assert_is_replay_of(1);
    assert_eq!(sent() - before, 2, "it was completed here");
    for _ in 0..3 {
        clients[1].ask(order("order-1")).await.assert_is_replay_of(1);
        assert_eq!(sent() - before, 3, "it was read once on the other node");
    }
}
