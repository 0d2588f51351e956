//! What the server has done, and whose replies were lost.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::StatusCode;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use crate::{
    behaviour::support::{Counting, Handler, until},
    support::{
        Application, Fate, LONG, Proxy, SHARED, fresh_name,
        store::{LOSSES, Sent, Store, backend_behind, backend_over, is_claim, is_heartbeat, is_record, is_release},
    },
};

/// Lets the first `count` of what is sent and `matches` meet with `fate`.
pub(crate) async fn first(count: usize, matches: fn(&Sent) -> bool, fate: Fate) -> Proxy {
    let met = AtomicUsize::new(0);
    let plan = move |sent: &Sent| {
        let hit = matches(sent) && met.fetch_add(1, Ordering::SeqCst) < count;
        if hit { fate.clone() } else { Fate::Pass }
    };
    Proxy::start(&SHARED, plan).await
}

pub(crate) async fn layer_over(proxy: &Proxy) -> IdempotencyLayer<Store> {
    IdempotencyLayer::new(backend_behind(proxy, &fresh_name()).await).lease(LONG)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_whose_reply_was_lost_is_recognised() {
    for fate in LOSSES {
        let handler = Handler::payments();
        let proxy = first(1, is_claim, fate.clone()).await;
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
    for fate in LOSSES {
        let handler = Handler::payments();
        let proxy = first(1, is_record, fate.clone()).await;
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

    node.pay("order-1").await.assert_is_unstored_of(1);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heartbeats_whose_replies_were_lost_keep_the_key() {
    let handler = Handler::held_payments();
    let met = AtomicUsize::new(0);
    let proxy = Proxy::start(&SHARED, move |sent: &Sent| {
        let lost = is_heartbeat(sent) && met.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if lost { Fate::LoseReply } else { Fate::Pass }
    })
    .await;
    let name = fresh_name();
    let backend = Counting::new(BoxBackend::new(backend_behind(&proxy, &name).await));
    let lease = Duration::from_millis(900);
    let node = Application::start(&handler, IdempotencyLayer::new(backend.clone()).lease(lease)).await;
    let other = IdempotencyLayer::new(backend_over(&SHARED, &name).await).lease(lease);
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
