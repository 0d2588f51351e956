//! `CachedBackend` in front of Redis.

use std::sync::Arc;

use tower_idempotency::{
    BoxBackend, CachedBackend, IdempotencyLayer, MemoryBackend, RedisBackend, testing::conformance,
};

use crate::{
    behaviour::support::{Client, Handler, serve},
    support::{Fate, Proxy, SHARED, backend_at, fresh_backend, fresh_prefix, order},
};

fn cached(redis: RedisBackend) -> CachedBackend<RedisBackend> {
    CachedBackend::new(MemoryBackend::new(), redis)
}

mod http {
    suite!(tower_idempotency::BoxBackend::new(crate::cached::cached(crate::support::fresh_backend().await)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_laws_are_kept() {
    let backend = cached(fresh_backend().await);
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replay_costs_no_command_where_the_record_was_seen() {
    let proxy = Arc::new(Proxy::start(&SHARED, |_| Fate::Pass).await);
    let prefix = fresh_prefix();
    let (first, second) = (Handler::payments(), Handler::payments());
    let mut clients = Vec::new();
    for handler in [&first, &second] {
        let backend = BoxBackend::new(cached(backend_at(&proxy.url(), &prefix).await));
        clients.push(Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend))).await));
    }
    let commands = || proxy.count(|_| true);
    // After a first run the server knows the scripts.
    clients[0].ask(order("warm-up")).await.assert_is_first_of(1);

    let before = commands();
    clients[0].ask(order("order-1")).await.assert_is_first_of(2);
    assert_eq!(commands() - before, 2);
    clients[0].ask(order("order-1")).await.assert_is_replay_of(2);
    assert_eq!(commands() - before, 2, "it was completed here");
    for _ in 0..3 {
        clients[1].ask(order("order-1")).await.assert_is_replay_of(2);
        assert_eq!(commands() - before, 3, "it was read once on the other node");
    }
}
