//! Requests that are to use something up.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::channel::Channel;
use tokio::{task::JoinSet, time::Instant};
use tower::{Layer, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Rejection, RequestBody};

use crate::{
    layer,
    support::{Client, Handler, Visits, payment, request, serve, until},
};

/// More keys than the store has room for end no run, and cost no more memory than it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_keys_stays_within_its_bounds_and_ends_no_run() {
    const ROOM: usize = 64;
    let backend = MemoryBackend::with_limits(ROOM, 1 << 20);
    let layer = IdempotencyLayer::new(backend.clone());
    let (held, handler) = (Handler::held_payments(), Handler::payments());
    let slow = Client::http1(serve(held.router().layer(layer.clone())).await);
    let client = Client::http1(serve(handler.router().layer(layer)).await);
    let first = tokio::spawn({
        let slow = slow.clone();
        async move { slow.ask(payment("order")).await }
    });
    held.entered(1).await;

    for run in 1..=10 * ROOM {
        client.ask(payment(&format!("flood-{run}"))).await.assert_is_first_of(run);
        assert!(backend.len() <= ROOM, "{} entries", backend.len());
    }
    slow.ask(payment("order")).await.assert_is(Rejection::InProgress);
    // What is lost are the oldest records: their requests run again.
    client.ask(payment("flood-1")).await.assert_is_first_of(10 * ROOM + 1);
    held.open();
    first.await.unwrap().assert_is_first_of(1);
    slow.ask(payment("order")).await.assert_is_replay_of(1);
    assert_eq!(held.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_is_full_of_runs_refuses_more() {
    const ROOM: usize = 16;
    let handler = Handler::held_payments();
    let backend = MemoryBackend::with_limits(ROOM, 1 << 20);
    let client = Client::http2(serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await).await;
    let mut runs = JoinSet::new();
    for run in 0..ROOM {
        let client = client.clone();
        runs.spawn(async move { client.ask(payment(&format!("order-{run}"))).await });
    }
    handler.entered(ROOM).await;
    for _ in 0..3 {
        client.ask(payment("one-more")).await.assert_is(Rejection::BackendUnavailable);
        client.ask(payment("order-0")).await.assert_is(Rejection::InProgress);
    }
    assert_eq!((handler.runs(), backend.len()), (ROOM, ROOM));
    handler.open();
    assert!(runs.join_all().await.iter().all(|answer| answer.status == 201));
    client.ask(payment("one-more")).await.assert_is_first_of(ROOM + 1);
}

/// A client that resets its streams as fast as it opens them leaves no more runs behind than a limit inside allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_whose_clients_have_left_are_bounded_by_a_limit_inside() {
    const LIMIT: usize = 4;
    const FLOOD: usize = 100;
    let (handler, visits, layer) = (Handler::held_payments(), Visits::default(), layer());
    // Both at once: a router that is given them one by one lets everything into the first.
    let limit = ServiceBuilder::new().layer(layer.clone()).layer(GlobalConcurrencyLimitLayer::new(LIMIT));
    let limited = handler.router().layer(limit);
    let client = Client::http2(serve(visits.around(limited)).await).await;
    let mut requests = JoinSet::new();
    for number in 0..FLOOD {
        let client = client.clone();
        requests.spawn(async move { client.ask(payment(&format!("order-{number}"))).await });
    }
    let (seen, arrived) = (visits.clone(), handler.clone());
    until("all have come, and some run", move || seen.arrived() == FLOOD && arrived.runs() == LIMIT).await;
    requests.shutdown().await;
    let seen = visits.clone();
    until("all have left", move || seen.inside() == 0).await;

    assert_eq!((visits.abandoned(), handler.runs(), layer.runs().len()), (FLOOD, LIMIT, LIMIT));
    handler.open();
    layer.runs().drain().await;
    assert_eq!((handler.runs(), handler.ended()), (LIMIT, LIMIT));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_refused_after_half_a_minute() {
    let inner = service_fn(|_: Request<RequestBody<Channel<Bytes>>>| async {
        Ok::<_, Infallible>(Response::new(http_body_util::Full::<Bytes>::from("ran")))
    });
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let order = Request::post("/payments").header("idempotency-key", "order-1").body(body).unwrap();
    let began = Instant::now();
    let answer = tokio::spawn(layer().layer(inner).oneshot(order));
    // A byte every second is not an end either.
    while sender.send_data(Bytes::from_static(b"a")).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < Duration::from_secs(40), "it goes on");
    }
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.extensions().get(), Some(&Rejection::BodyTimedOut));
}

/// What is no JSON, or too deep, or too large a number to be one, is compared byte by byte and never parsed to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn json_that_is_made_to_break_parsers_is_bytes() {
    use tower_idempotency::{FingerprintPolicy, KeySource};

    let handler = Handler::payments();
    let source = KeySource::default().or(KeySource::json_pointer("/id"));
    let json = layer().fingerprint(FingerprintPolicy::canonical_json()).key(source);
    let client = Client::http1(serve(handler.router().layer(json)).await);
    let deep = |open: &str| open.repeat((1 << 20) / open.len());
    let bodies = [deep("["), deep("{\"id\":"), format!("1{}", deep("0")), "1e999999999".to_owned(), deep("\\u")];
    for (number, body) in (0..).zip(bodies) {
        let ask = |key: Option<&str>, body: String| {
            let mut order = request(Method::POST, "/pay", key.unwrap_or("-"), "").map(|_| body.into());
            order.headers_mut().insert("content-type", "application/json".parse().unwrap());
            if key.is_none() {
                order.headers_mut().remove("x-idempotency-key");
            }
            order
        };
        let (runs, key) = (3 * number, format!("order-{number}"));
        client.ask(ask(Some(&key), body.clone())).await.assert_is_first_of(runs + 1);
        client.ask(ask(Some(&key), body.clone())).await.assert_is_replay_of(runs + 1);
        client.ask(ask(Some(&key), body.clone() + " ")).await.assert_is(Rejection::Mismatch);
        // Nothing that is found in it is a key.
        client.ask(ask(None, body.clone())).await.assert_is_first_of(runs + 2);
        client.ask(ask(None, body)).await.assert_is_first_of(runs + 3);
        assert_eq!(handler.runs(), runs + 3);
    }
}
