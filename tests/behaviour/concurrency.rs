//! Many requests at once.

use axum::body::Body;
use http::Request;
use tokio::task::JoinSet;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Answer, Client, Handler, payment, serve};

pub(crate) const MANY: usize = 1000;

/// Five HTTP/2 connections, below their 200 streams each, for nine tenths of the requests; one HTTP/1 connection for
/// each of the others. So few file descriptors suffice.
pub(crate) async fn send_many(
    server: std::net::SocketAddr,
    request: impl Fn(usize) -> Request<Body>,
) -> JoinSet<Answer> {
    let mut http2 = Vec::new();
    for _ in 0..5 {
        http2.push(Client::http2(server).await);
    }
    let mut answers = JoinSet::new();
    for number in 0..MANY {
        let client = if number % 10 == 0 { Client::http1(server) } else { http2[number % 5].clone() };
        let request = request(number);
        answers.spawn(async move { client.ask(request).await });
    }
    answers
}

pub(crate) async fn of_a_thousand_concurrent_duplicates_one_runs(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    let mut answers = send_many(server, |_| payment("order-1")).await;
    for _ in 1..MANY {
        answers.join_next().await.unwrap().unwrap().assert_is(Rejection::InProgress);
    }
    assert_eq!(handler.runs(), 1);

    handler.open();
    answers.join_next().await.unwrap().unwrap().assert_is_first_of(1);
    assert!(answers.join_next().await.is_none());
    for client in Client::both(server).await {
        client.ask(payment("order-1")).await.assert_is_replay_of(1);
    }
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn a_thousand_distinct_keys_run_at_once(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    let answers = send_many(server, |number| payment(&format!("order-{number}"))).await;
    handler.entered(MANY).await;
    handler.open();

    let mut bodies: Vec<_> = answers.join_all().await.into_iter().map(|answer| answer.body).collect();
    bodies.sort();
    let mut expected: Vec<_> = (1..=MANY).map(|run| format!(r#"{{"payment":{run}}}"#)).collect();
    expected.sort();
    assert_eq!(bodies, expected);
    assert_eq!(handler.runs(), MANY);
}
