//! Statements that were executed, and whose replies were lost.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::StatusCode;
use tower_idempotency::{BoxBackend, IdempotencyLayer, PostgresBackend, Rejection};

use crate::{
    behaviour::support::{Counting, Handler, until},
    support::{Application, Fate, LONG, Proxy, SHARED, backend_at, fresh_table},
};

fn is_claim(statement: &str) -> bool {
    statement.starts_with("WITH live")
}

fn is_record(statement: &str) -> bool {
    statement.starts_with("WITH changed AS (INSERT")
}

fn is_release(statement: &str) -> bool {
    statement.starts_with("WITH changed AS (DELETE")
}

fn is_heartbeat(statement: &str) -> bool {
    statement.starts_with("UPDATE")
}

/// Lets the first `count` statements of which `matches` is true meet with `fate`.
async fn first(count: usize, matches: fn(&str) -> bool, fate: Fate) -> Proxy {
    let met = AtomicUsize::new(0);
    let plan = move |statement: &str| {
        let hit = matches(statement) && met.fetch_add(1, Ordering::SeqCst) < count;
        if hit { fate } else { Fate::Pass }
    };
    Proxy::start(&SHARED, plan).await
}

async fn layer_over(proxy: &Proxy) -> IdempotencyLayer<PostgresBackend> {
    IdempotencyLayer::new(backend_at(proxy.pool(5), &fresh_table()).await).lease(LONG)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_whose_reply_was_lost_is_recognised() {
    for fate in [Fate::LoseReply, Fate::Lose, Fate::FallSilent] {
        let handler = Handler::payments();
        let proxy = first(1, is_claim, fate).await;
        let node = Application::start(&handler, layer_over(&proxy).await).await;

        node.pay("order-1").await.assert_is_first_of(1);
        assert_eq!(proxy.count(is_claim), 2, "{fate:?}");
        node.pay("order-1").await.assert_is_replay_of(1);
        assert_eq!(handler.runs(), 1, "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_that_is_never_answered_does_not_lock_its_key() {
    let handler = Handler::payments();
    // Three sendings, as many as a request makes.
    let proxy = first(3, is_claim, Fate::LoseReply).await;
    let node = Application::start(&handler, layer_over(&proxy).await).await;

    node.pay("order-1").await.assert_is(Rejection::BackendUnavailable);
    assert_eq!((handler.runs(), proxy.count(is_claim)), (0, 3));
    node.pay_in_the_end("order-1").await.assert_is_first_of(1);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_whose_reply_was_lost_is_recognised() {
    for fate in [Fate::LoseReply, Fate::Lose, Fate::FallSilent] {
        let handler = Handler::payments();
        let proxy = first(1, is_record, fate).await;
        let node = Application::start(&handler, layer_over(&proxy).await).await;

        node.pay("order-1").await.assert_is_first_of(1);
        assert_eq!(proxy.count(is_record), 2, "{fate:?}");
        node.pay("order-1").await.assert_is_replay_of(1);
        assert_eq!(handler.runs(), 1, "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_is_never_acknowledged_is_replayed_all_the_same() {
    let handler = Handler::payments();
    let proxy = first(usize::MAX, is_record, Fate::LoseReply).await;
    let node = Application::start(&handler, layer_over(&proxy).await).await;

    let answer = node.pay("order-1").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.headers["idempotency-stored"], "false");
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heartbeats_whose_replies_were_lost_keep_the_key() {
    let handler = Handler::held_payments();
    let sent = AtomicUsize::new(0);
    let proxy = Proxy::start(&SHARED, move |statement: &str| {
        let lost = is_heartbeat(statement) && sent.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if lost { Fate::LoseReply } else { Fate::Pass }
    })
    .await;
    let table = fresh_table();
    let backend = Counting::new(BoxBackend::new(backend_at(proxy.pool(5), &table).await));
    let lease = Duration::from_millis(900);
    let node = Application::start(&handler, IdempotencyLayer::new(backend.clone()).lease(lease)).await;
    let other = IdempotencyLayer::new(backend_at(SHARED.pool(5), &table).await).lease(lease);
    let other = Application::start(&handler, other).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    // Twelve sendings make six heartbeats, two leases.
    until("heartbeats are sent", move || backend.renewals() >= 12).await;
    other.pay("order-1").await.assert_is(Rejection::InProgress);
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    other.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_release_whose_reply_was_lost_gives_the_key_back_once() {
    let handler = Handler::payments();
    let proxy = first(1, is_release, Fate::LoseReply).await;
    let node = Application::failing(&handler, layer_over(&proxy).await).await;

    for run in 1..=2 {
        assert_eq!(node.pay("order-1").await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(handler.runs(), run);
    }
}
