//! What goes over the wire, command by command.

use std::{sync::Arc, time::Duration};

use http::Method;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use crate::{
    behaviour::support::{Client, Counting, Handler, request, serve, until},
    support::{Fate, Proxy, SHARED, fresh_name, order, store::backend_behind},
};

/// A backend behind a proxy that counts.
async fn counted() -> (BoxBackend, Arc<Proxy>) {
    let proxy = Arc::new(Proxy::start(&SHARED, |_| Fate::Pass).await);
    (BoxBackend::new(backend_behind(&proxy, &fresh_name()).await), proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_costs_two_commands_a_replay_one_and_a_bypass_none() {
    let (backend, proxy) = counted().await;
    let handler = Handler::held_payments();
    let client = Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend))).await);
    let commands = || proxy.count(|_| true);
    let mut seen = commands();
    let mut since = || {
        let before = std::mem::replace(&mut seen, commands());
        seen - before
    };

    let first = tokio::spawn({
        let client = client.clone();
        async move { client.ask(order("order-1")).await }
    });
    handler.entered(1).await;
    assert_eq!(since(), 1, "the claim of a first request");
    client.ask(order("order-1")).await.assert_is(Rejection::InProgress);
    assert!(since() <= 1, "a conflict costs one command at most");
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    assert_eq!(since(), 1, "the record of a first request");
    client.ask(order("order-1")).await.assert_is_replay_of(1);
    assert_eq!(since(), 1, "a replay");

    client.ask(request(Method::PUT, "/payments", "order-1", "")).await.assert_is_first_of(2);
    let mut without_key = order("none");
    without_key.headers_mut().remove("x-idempotency-key");
    client.ask(without_key).await.assert_is_first_of(3);
    assert_eq!(since(), 0, "requests that are not guarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_heartbeat_costs_one_command() {
    let (backend, proxy) = counted().await;
    let (handler, backend) = (Handler::held_payments(), Counting::new(backend));
    let layer = IdempotencyLayer::new(backend.clone()).lease(Duration::from_millis(600));
    let client = Client::http1(serve(handler.router().layer(layer)).await);
    let before = proxy.count(|_| true);

    let first = tokio::spawn(async move { client.ask(order("order-1")).await });
    let renewals = backend.clone();
    until("the lease is renewed", move || renewals.renewals() >= 5).await;
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    assert_eq!(proxy.count(|_| true) - before, 1 + backend.renewals() + 1, "a claim, the heartbeats and a record");
    assert_eq!(proxy.count(|_| true) - before, backend.commands());
}
