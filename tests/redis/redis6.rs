//! A server before Redis 7, which refuses `SET` with both `NX` and `GET`.

use tower_idempotency::{IdempotencyLayer, testing::conformance};

use crate::{
    behaviour::support::Handler,
    support::{Application, Command, Fate, Proxy, SHARED, backend_at, fresh_name},
};

/// Answers as Redis 6 does.
async fn redis6() -> Proxy {
    Proxy::start(&SHARED, |command: &Command| {
        let refused = command.is_claim() && command.has("GET");
        if refused { Fate::Answer("-ERR syntax error\r\n") } else { Fate::Pass }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn is_found_out_once() {
    let (proxy, handler) = (redis6().await, Handler::payments());
    let backend = backend_at(&proxy.url(), &fresh_name()).await;
    let node = Application::start(&handler, IdempotencyLayer::new(backend)).await;

    for order in 1..=5 {
        let key = format!("order-{order}");
        node.pay(&key).await.assert_is_first_of(order);
        node.pay(&key).await.assert_is_replay_of(order);
        assert_eq!(proxy.count(Command::is_claim), 1);
    }
    assert_eq!(handler.runs(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_laws() {
    let proxy = redis6().await;
    let backend = backend_at(&proxy.url(), &fresh_name()).await;
    conformance(|| async { backend.clone() }).await;
}
