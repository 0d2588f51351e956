//! Servers that lose the scripts, or that are busy.

use std::time::Duration;

use http::StatusCode;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use crate::{
    behaviour::support::{Counting, Handler, until},
    support::{Application, LONG, Server, backend_at},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scripts_that_were_flushed_are_sent_again() {
    let (server, handler) = (Server::start(&[]), Handler::held_payments());
    let counting = Counting::new(BoxBackend::new(backend_at(&server.url(), "scripts:").await));
    let layer = IdempotencyLayer::new(counting.clone()).lease(Duration::from_millis(600));
    let node = Application::start(&handler, layer).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    for heartbeats in 1..=4 {
        server.ask::<()>("SCRIPT FLUSH");
        let counting = counting.clone();
        until("the lease is renewed", move || counting.renewals() > heartbeats).await;
        node.pay("order-1").await.assert_is(Rejection::InProgress);
    }
    server.ask::<()>("SCRIPT FLUSH");
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    server.ask::<()>("SCRIPT FLUSH");
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_is_given_back_after_a_script_flush() {
    let (server, handler) = (Server::start(&[]), Handler::payments());
    let layer = IdempotencyLayer::new(backend_at(&server.url(), "scripts:").await).lease(LONG);
    let node = Application::failing(&handler, layer).await;

    for run in 1..=3 {
        assert_eq!(node.pay("order-1").await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(handler.runs(), run);
        server.ask::<()>("SCRIPT FLUSH");
    }
}

/// The sleeping server gets everything that is sent meanwhile at once when it wakes, in whatever order of connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_to_a_server_that_sleeps_run_once() {
    const KEYS: usize = 20;
    let handler = Handler::payments();
    let server = std::sync::Arc::new(Server::start(&[]));
    let layer = IdempotencyLayer::new(backend_at(&server.url(), "scripts:").await).lease(LONG);
    let node = Application::start(&handler, layer).await;

    // Shorter and longer than the time-out of a command.
    for (round, seconds) in ["0.3", "2.5"].iter().enumerate() {
        let sleeper = std::sync::Arc::clone(&server);
        let sleep = tokio::task::spawn_blocking(move || sleeper.ask::<()>(&format!("DEBUG SLEEP {seconds}")));
        let keys: Vec<_> = (0..KEYS).map(|key| format!("order-{round}-{key}")).collect();
        let answers: Vec<_> = keys.iter().map(|key| node.begin(key)).collect();
        for answer in answers {
            let answer = answer.await.unwrap();
            assert!([StatusCode::CREATED, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status), "{answer:?}");
        }
        sleep.await.unwrap();
        for key in &keys {
            node.pay_in_the_end(key).await;
            assert!(node.pay(key).await.is_replay());
        }
        assert_eq!(handler.runs(), KEYS * (round + 1));
    }
}
