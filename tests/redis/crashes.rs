//! Servers that forget when they are killed, or are stopped where they stand. The rest is in `tests/stores/`.

use std::time::Duration;

use crate::{
    behaviour::support::{Handler, until},
    stores::crashes::{assert_that_a_standstill_leaves_keys_free, layer_over},
    support::{Application, Server, store::teach_scripts},
};

/// What a server that keeps nothing forgets, its clients may run again. Even so, no run is left half-owned.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_without_a_disk_forgets() {
    let (server, handler) = (Server::start(&[]), Handler::payments());
    let node = Application::start(&handler, layer_over(&server).await).await;
    node.pay("order-1").await.assert_is_first_of(1);

    server.kill();
    server.restart();
    node.pay_in_the_end("order-1").await.assert_is_first_of(2);
    node.pay("order-1").await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}

/// Refuses more requests than a server reads from one connection before it looks at the next one. What they have sent
/// arrives when the server goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_stands_still_refuses_in_time_and_keys_are_free_afterwards() {
    const KEYS: usize = 1000;
    let (server, handler) = (Server::start(&[]), Handler::payments());
    let node = Application::start(&handler, layer_over(&server).await).await;
    node.pay("order").await.assert_is_first_of(1);
    teach_scripts(&server).await;

    server.pause();
    assert_that_a_standstill_leaves_keys_free(&node, &handler, KEYS, async || server.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_stands_still_for_longer_than_the_lease_lets_a_run_end_once() {
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
    let lease = Duration::from_millis(600);
    let node = Application::start(&handler, layer_over(&server).await.lease(lease)).await;
    let other = Application::start(&handler, layer_over(&server).await).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.pause();
    tokio::time::sleep(2 * lease).await; // the time that passes is what is tested
    server.resume();
    let second = tokio::spawn(async move { other.pay_in_the_end("order-1").await });
    // The lease is over, so the other node runs.
    handler.entered(2).await;
    handler.open();
    second.await.unwrap().assert_is_first_of(2);
    first.await.unwrap().assert_has_lost_to(2);
    node.pay("order-1").await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_whose_lease_ended_while_the_server_stood_still_is_recorded_if_nobody_took_over() {
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
    let lease = Duration::from_millis(600);
    let layer = layer_over(&server).await.lease(lease);
    let node = Application::start(&handler, layer).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    server.pause();
    tokio::time::sleep(2 * lease).await; // the time that passes is what is tested
    server.resume();
    until("the server goes on", || server.try_ask::<String>("PING").is_ok()).await;
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}
