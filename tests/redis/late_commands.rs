//! Commands that are delivered after their caller has given up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tower_idempotency::{IdempotencyLayer, Rejection};

use crate::{
    behaviour::support::{Handler, until},
    support::{Application, Command, Fate, Gate, LONG, Proxy, SHARED, backend_at, fresh_name},
};

/// Holds commands of which `matches` is true at a gate, while `on` is set.
async fn holding(matches: fn(&Command) -> bool) -> (Proxy, Gate, Arc<AtomicBool>) {
    let (gate, on) = (Gate::closed(), Arc::new(AtomicBool::new(true)));
    let (held, switch) = (gate.clone(), Arc::clone(&on));
    let plan = move |command: &Command| {
        let held_back = matches(command) && switch.load(Ordering::SeqCst);
        if held_back { Fate::Hold(held.clone()) } else { Fate::Pass }
    };
    (Proxy::start(&SHARED, plan).await, gate, on)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_that_arrives_after_its_release_does_not_lock_its_key() {
    let handler = Handler::payments();
    let (proxy, gate, _) = holding(Command::is_claim).await;
    let (proxy, prefix) = (Arc::new(proxy), fresh_name());
    let node = IdempotencyLayer::new(backend_at(&proxy.url(), &prefix).await).lease(LONG);
    let node = Application::start(&handler, node).await;

    node.pay("order-1").await.assert_is(Rejection::BackendUnavailable);
    assert_eq!(handler.runs(), 0);
    let sent = Arc::clone(&proxy);
    until("the release arrives", move || sent.count(Command::is_script) > 0).await;
    gate.open();
    until("the claim arrives", || SHARED.ask::<Vec<String>>(&format!("KEYS {prefix}*")).len() == 1).await;
    node.pay_in_the_end("order-1").await.assert_is_first_of(1);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_record_is_replayed() {
    let handler = Handler::payments();
    let (proxy, gate, _) = holding(Command::is_script).await;
    let prefix = fresh_name();
    let layer = |backend| IdempotencyLayer::new(backend).lease(LONG);
    let node = Application::start(&handler, layer(backend_at(&proxy.url(), &prefix).await)).await;
    let other = Application::start(&handler, layer(backend_at(&SHARED.url(), &prefix).await)).await;

    node.pay("order-1").await.assert_is_unstored_of(1);
    other.pay("order-1").await.assert_is(Rejection::InProgress);
    gate.open();
    other.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

/// A node whose owner commands do not arrive loses its lease, and another one runs. What the first sent arrives then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn late_commands_of_a_holder_that_lost_its_lease_change_nothing() {
    let handler = Handler::held_payments();
    let (proxy, gate, _) = holding(Command::is_script).await;
    let prefix = fresh_name();
    let layer = |backend, lease| IdempotencyLayer::new(backend).lease(lease);
    let lease = Duration::from_millis(600);
    let node = Application::start(&handler, layer(backend_at(&proxy.url(), &prefix).await, lease)).await;
    let other = Application::start(&handler, layer(backend_at(&SHARED.url(), &prefix).await, LONG)).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    let second = tokio::spawn(async move { other.pay_in_the_end("order-1").await });
    handler.entered(2).await;
    gate.open(); // heartbeats of the first run arrive
    let arrived = Arc::new(proxy);
    let scripts = arrived.count(Command::is_script);
    assert!(scripts > 0, "the first run sent no heartbeat");
    handler.open();

    second.await.unwrap().assert_is_first_of(2);
    first.await.unwrap().assert_has_lost_to(2);
    until("the first run's record is refused", move || arrived.count(Command::is_script) > scripts).await;
    node.pay("order-1").await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}
