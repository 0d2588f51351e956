//! Requests without a key, known by what they say.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::channel::Channel;
use tower_idempotency::{BodyHash, BoxBackend, IdempotencyLayer};

use super::support::{Client, Counting, Handler, request, serve};

const WINDOW: Duration = Duration::from_secs(60);

/// An order without a key, to the same authority each time, with these lines.
fn order(lines: &[(header::HeaderName, &'static str)]) -> Request<Body> {
    let mut order = request(Method::POST, "/payments", "", "order");
    order.headers_mut().remove("x-idempotency-key");
    order.headers_mut().insert(header::HOST, HeaderValue::from_static("example.com"));
    for (name, value) in lines {
        order.headers_mut().append(name, HeaderValue::from_static(value));
    }
    order
}

pub(crate) async fn the_same_request_of_one_caller_runs_once_over_both_protocols(backend: BoxBackend) {
    let handler = Handler::payments();
    let layer = IdempotencyLayer::new(backend).or_body_hash(BodyHash::per_caller(WINDOW));
    let server = serve(handler.router().layer(layer)).await;
    let [http1, http2] = Client::both(server).await;

    http1.ask(order(&[(header::COOKIE, "session=alice; lang=en")])).await.assert_is_first_of(1);
    // HTTP/2 clients send cookies in lines of their own.
    let split = order(&[(header::COOKIE, "session=alice"), (header::COOKIE, "lang=en")]);
    http2.ask(split).await.assert_is_replay_of(1);
    http2.ask(order(&[(header::COOKIE, "session=bob; lang=en")])).await.assert_is_first_of(2);
    http1.ask(order(&[(header::AUTHORIZATION, "Bearer alice")])).await.assert_is_first_of(3);
    http2.ask(order(&[(header::AUTHORIZATION, "Bearer alice")])).await.assert_is_replay_of(3);
    assert_eq!(handler.runs(), 3);
}

pub(crate) async fn strangers_never_share_an_answer(backend: BoxBackend) {
    let handler = Handler::payments();
    let backend = Counting::new(backend);
    let layer = IdempotencyLayer::new(backend.clone()).or_body_hash(BodyHash::per_caller(WINDOW));
    let server = serve(handler.router().layer(layer)).await;
    for client in Client::both(server).await {
        for _ in 0..2 {
            let runs = handler.runs();
            client.ask(order(&[])).await.assert_is_first_of(runs + 1);
        }
    }
    assert_eq!((handler.runs(), backend.commands()), (4, 0));
}

pub(crate) async fn a_body_above_the_limit_reaches_the_handler_whole(backend: BoxBackend) {
    const LIMIT: usize = 100_000;
    let body: Vec<u8> = (0..10 * LIMIT).map(|position| (position % 251).to_le_bytes()[0]).collect();
    let handler = Handler::new(|_, request| Response::new(Body::from(request.body().clone())));
    let backend = Counting::new(backend);
    let layer = IdempotencyLayer::new(backend.clone()).or_body_hash(BodyHash::any_caller(WINDOW)).limits(LIMIT, LIMIT);
    let server = serve(handler.router().layer(layer)).await;

    for client in Client::both(server).await {
        let declared = order(&[]).map(|_| Body::from(body.clone()));
        assert!(client.ask(declared).await.body == body, "what was declared arrives whole");

        let (mut pieces, stream) = Channel::<bytes::Bytes>::new(1);
        let (answer, ()) = tokio::join!(client.ask(order(&[]).map(|_| Body::new(stream))), async {
            for piece in body.chunks(30_001) {
                pieces.send_data(piece.to_vec().into()).await.unwrap();
            }
            drop(pieces);
        });
        assert!(answer.body == body, "what was not declared arrives whole");
    }
    assert_eq!((handler.runs(), backend.commands()), (4, 0));
}
