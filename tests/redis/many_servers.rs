//! Clusters whose slots move, and masters that are replaced.

use std::sync::Arc;

use redis::sentinel::{SentinelClient, SentinelServerType};
use tokio::sync::Mutex;
use tower_idempotency::{IdempotencyLayer, RedisBackend, Rejection};

use crate::{
    behaviour::support::Handler,
    support::{Application, Cluster, LONG, MASTER, Sentinel},
};

/// All keys of the test are in one slot, which goes twice round the cluster while they are used.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slot_moves_under_load() {
    let cluster = Cluster::start();
    let slot = cluster.slot("{moving}");
    let first = Cluster::first_owner(slot);
    let handler = Handler::payments();
    let layer = IdempotencyLayer::new(cluster.backend("{moving}:").await).lease(LONG);
    let node = Application::start(&handler, layer).await;

    let mover = tokio::task::spawn_blocking(move || {
        (first..first + 6).for_each(|owner| cluster.move_slot(slot, owner % 3, (owner + 1) % 3));
        cluster // as long as it is needed
    });
    let mut orders = Vec::new();
    while !mover.is_finished() {
        let key = format!("order-{}", orders.len());
        for duplicate in [node.begin(&key), node.begin(&key), node.begin(&key)] {
            let status = duplicate.await.unwrap().status.as_u16();
            assert!([201, 409, 503].contains(&status), "{status}");
        }
        orders.push(node.pay_in_the_end(&key).await.body);
    }
    let _cluster = mover.await.unwrap();
    for (number, first) in orders.iter().enumerate() {
        let answer = node.pay(&format!("order-{number}")).await;
        assert_eq!((answer.is_replay(), &answer.body), (true, first));
    }
    assert_eq!(handler.runs(), orders.len());
}

/// A backend that asks the sentinel for the master whenever it connects.
async fn backend_behind(sentinel: &Sentinel) -> RedisBackend {
    let sentinel = SentinelClient::build(vec![sentinel.url()], MASTER, None, SentinelServerType::Master);
    let sentinel = Arc::new(Mutex::new(sentinel.unwrap()));
    let locate = move || {
        let sentinel = Arc::clone(&sentinel);
        async move { sentinel.lock().await.async_get_client().await }
    };
    RedisBackend::connect_by(locate).await.unwrap().prefix("failover:")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_master_fails_over() {
    let (sentinel, handler) = (Sentinel::start(), Handler::held_payments());
    let backend = backend_behind(&sentinel).await;
    let node = Application::start(&handler, IdempotencyLayer::new(backend).lease(LONG)).await;
    handler.open();
    node.pay("order-1").await.assert_is_first_of(1);
    sentinel.catch_up();

    tokio::task::block_in_place(|| sentinel.fail_over());
    // What the replica had got is kept: by itself, and without a restart.
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    node.pay_in_the_end("order-2").await.assert_is_first_of(2);
    node.pay("order-2").await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_outlives_a_failover() {
    let (sentinel, handler) = (Sentinel::start(), Handler::held_payments());
    let backend = backend_behind(&sentinel).await;
    let node = Application::start(&handler, IdempotencyLayer::new(backend).lease(LONG)).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    sentinel.catch_up();
    tokio::task::block_in_place(|| sentinel.fail_over());
    let refused = node.pay("order-1").await;
    assert!([Rejection::InProgress, Rejection::BackendUnavailable].iter().any(|r| r.status() == refused.status));
    handler.open();
    first.await.unwrap();
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}
