//! Request bodies that are too large, too slow or broken.

use std::{io, net::SocketAddr, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::channel::{Channel, Sender};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_http::timeout::TimeoutLayer;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Client, Counting, Handler, RawAnswer, Visits, connect, exchange, request, serve, until};

const LIMIT: usize = 1000;

/// A payment service whose layer reads up to `LIMIT` bytes, seen from all sides.
struct Service {
    handler: Handler,
    backend: Counting,
    visits: Visits,
    server: SocketAddr,
}

impl Service {
    async fn new(backend: BoxBackend) -> Self {
        let (handler, backend, visits) = (Handler::payments(), Counting::new(backend), Visits::default());
        let layer = IdempotencyLayer::new(backend.clone()).limits(LIMIT, LIMIT);
        let server = serve(visits.around(handler.router().layer(layer))).await;
        Self { handler, backend, visits, server }
    }

    /// Nothing ran, and nothing was asked of the backend; and the key works for a whole request.
    async fn assert_untouched(&self, key: &str) {
        assert_eq!((self.handler.runs(), self.backend.commands()), (0, 0));
        let client = Client::http1(self.server);
        let order = || request(Method::POST, "/payments", key, "order");
        client.ask(order()).await.assert_is_first_of(1);
        client.ask(order()).await.assert_is_replay_of(1);
        assert_eq!(self.handler.runs(), 1);
    }
}

/// The head of a request with the key `order-1`, up to the headers that say how its body is sent.
fn head(framing: &str) -> Vec<u8> {
    format!(
        "POST /payments HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\nidempotency-key: order-1\r\n\
         {framing}\r\n\r\n"
    )
    .into_bytes()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A request of unknown length, whose body the test sends.
fn upload(key: &str) -> (Sender<Bytes, io::Error>, Request<Body>) {
    let (sender, body) = Channel::new(1);
    (sender, request(Method::POST, "/payments", key, "").map(|_| Body::new(body)))
}

pub(crate) async fn a_declared_length_above_the_limit_is_refused_before_the_body_is_read(backend: BoxBackend) {
    let service = Service::new(backend).await;

    // Not a byte of the body is sent.
    for framing in ["content-length: 1001", "content-length: 9999999999999999"] {
        exchange(service.server, &head(framing)).await.parsed().assert_is(Rejection::BodyTooLarge);
    }
    let client = Client::http2(service.server).await;
    let (_sender, mut order) = upload("order-1");
    order.headers_mut().insert("content-length", "1001".parse().unwrap());
    client.ask(order).await.assert_is(Rejection::BodyTooLarge);
    service.assert_untouched("order-1").await;
}

pub(crate) async fn a_chunked_body_above_the_limit_is_refused_while_it_is_read(backend: BoxBackend) {
    let service = Service::new(backend).await;

    // The bodies are never ended.
    let sent = [head("transfer-encoding: chunked"), chunk(&[b'a'; LIMIT]), chunk(b"b")].concat();
    exchange(service.server, &sent).await.parsed().assert_is(Rejection::BodyTooLarge);

    let client = Client::http2(service.server).await;
    let (mut sender, order) = upload("order-1");
    let answer = tokio::spawn(async move { client.ask(order).await });
    sender.send_data(Bytes::from_static(&[b'a'; LIMIT])).await.unwrap();
    sender.send_data(Bytes::from_static(b"b")).await.unwrap();
    answer.await.unwrap().assert_is(Rejection::BodyTooLarge);
    service.assert_untouched("order-1").await;
}

pub(crate) async fn a_body_of_exactly_the_limit_runs(backend: BoxBackend) {
    let service = Service::new(backend).await;

    let declared = [head("content-length: 1000"), vec![b'a'; LIMIT]].concat();
    exchange(service.server, &declared).await.parsed().assert_is_first_of(1);
    // The same bytes in other portions are the same request.
    let chunked = [head("transfer-encoding: chunked"), chunk(&[b'a'; LIMIT - 1]), chunk(b"a"), chunk(b"")].concat();
    exchange(service.server, &chunked).await.parsed().assert_is_replay_of(1);
    assert_eq!(service.handler.runs(), 1);
}

pub(crate) async fn a_body_that_ends_too_early_leaves_nothing(backend: BoxBackend) {
    let service = Service::new(backend).await;
    let sent = [
        [head("content-length: 100"), b"order".to_vec()].concat(),
        [head("transfer-encoding: chunked"), chunk(b"order")].concat(),
    ];
    for (requests, sent) in (1..).zip(sent) {
        let stream = connect(service.server, &sent).await;
        let visits = service.visits.clone();
        until("the request arrives", move || visits.arrived() == requests).await;
        drop(stream);
        let visits = service.visits.clone();
        until("the request ends", move || visits.answered() + visits.abandoned() == requests).await;
    }
    service.assert_untouched("order-1").await;
}

pub(crate) async fn a_body_that_is_not_http_leaves_nothing(backend: BoxBackend) {
    let service = Service::new(backend).await;

    let sent = [head("transfer-encoding: chunked"), chunk(b"order"), b"no length\r\n".to_vec()].concat();
    exchange(service.server, &sent).await.parsed().assert_is(Rejection::BodyUnreadable);
    service.assert_untouched("order-1").await;
}

pub(crate) async fn a_body_whose_stream_is_reset_leaves_nothing(backend: BoxBackend) {
    let service = Service::new(backend).await;
    let client = Client::http2(service.server).await;

    let (mut sender, order) = upload("order-1");
    let sending = tokio::spawn(async move { client.send(order).await.map(drop) });
    sender.send_data(Bytes::from_static(b"order")).await.unwrap();
    let visits = service.visits.clone();
    until("the request arrives", move || visits.arrived() == 1).await;
    sender.abort(io::Error::other("disk on fire"));
    let visits = service.visits.clone();
    until("the request ends", move || visits.answered() + visits.abandoned() == 1).await;
    let _ = sending.await.unwrap();
    service.assert_untouched("order-1").await;
}

pub(crate) async fn a_slow_upload_holds_no_claim(backend: BoxBackend) {
    let service = Service::new(backend).await;

    let mut slow = connect(service.server, &[head("content-length: 5"), b"or".to_vec()].concat()).await;
    let visits = service.visits.clone();
    until("the slow request arrives", move || visits.arrived() == 1).await;
    let whole = [head("content-length: 5"), b"order".to_vec()].concat();
    exchange(service.server, &whole).await.parsed().assert_is_first_of(1);
    slow.write_all(b"der").await.unwrap();
    RawAnswer::read(slow).await.parsed().assert_is_replay_of(1);
    assert_eq!(service.handler.runs(), 1);
}

pub(crate) async fn an_upload_that_an_outer_timeout_ends_leaves_nothing(backend: BoxBackend) {
    let (handler, backend) = (Handler::payments(), Counting::new(backend));
    let impatient = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(50));
    let router = handler.router().layer(IdempotencyLayer::new(backend.clone()));
    let server = serve(router.clone().layer(impatient)).await;

    let mut slow = connect(server, &[head("content-length: 5"), b"or".to_vec()].concat()).await;
    // The head of the answer: the time is over.
    assert_eq!(slow.read_u8().await.unwrap(), b'H');
    // The server may have closed by now.
    let _ = slow.write_all(b"der").await;
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest).await;
    assert!(rest.starts_with(b"TTP/1.1 504 "), "{}", rest.escape_ascii());
    assert_eq!((handler.runs(), backend.commands()), (0, 0));

    let patient = serve(router).await;
    let whole = [head("content-length: 5"), b"order".to_vec()].concat();
    exchange(patient, &whole).await.parsed().assert_is_first_of(1);
    assert_eq!((handler.runs(), backend.commands()), (1, 2));
}
