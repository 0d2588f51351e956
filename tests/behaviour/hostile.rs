//! Requests that nobody sends by accident.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tower_http::catch_panic::CatchPanicLayer;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{
    Client, Counting, Handler, RawAnswer, connect, exchange, payment, read_until_closed, request, serve,
};

const LIMIT: usize = 1000;

/// A payment service whose layer reads up to `LIMIT` bytes, and whose panics are counted.
struct Service {
    handler: Handler,
    backend: Counting,
    panics: Arc<AtomicUsize>,
    server: SocketAddr,
}

impl Service {
    async fn new(backend: BoxBackend) -> Self {
        Self::around(Handler::payments(), backend).await
    }

    async fn around(handler: Handler, backend: BoxBackend) -> Self {
        let (backend, panics) = (Counting::new(backend), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&panics);
        let count = CatchPanicLayer::custom(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        });
        let layer = IdempotencyLayer::new(backend.clone()).limits(LIMIT, 1 << 20);
        let server = serve(handler.router().layer(layer).layer(count)).await;
        Self { handler, backend, panics, server }
    }

    /// What the server makes of `bytes` is a 4xx or nothing; then it closes.
    async fn assert_refuses(&self, bytes: &[u8]) {
        let answer = send(self.server, bytes).await;
        self.assert_refused(bytes, &answer);
    }

    #[track_caller]
    fn assert_refused(&self, bytes: &[u8], answer: &[u8]) {
        let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.0 4");
        assert!(refused, "{} got {}", bytes[..bytes.len().min(300)].escape_ascii(), answer.escape_ascii());
        assert_eq!((self.handler.runs(), self.backend.commands()), (0, 0), "{}", bytes.escape_ascii());
    }

    /// The same over HTTP/2, where a refusal may be a reset.
    async fn assert_refuses_http2(&self, order: Request<Body>) {
        let client = Client::http2(self.server).await;
        match timeout(PATIENCE, client.send(order)).await.expect("no answer") {
            Ok(response) => assert!(response.status().is_client_error(), "{response:?}"),
            Err(error) => assert!(!error.is_timeout(), "{error:?}"),
        }
        assert_eq!((self.handler.runs(), self.backend.commands()), (0, 0));
    }

    /// Nothing ran, nothing was asked of the backend, nothing panicked; and the key works for an honest request.
    async fn assert_untouched(&self) {
        assert_eq!((self.handler.runs(), self.backend.commands()), (0, 0));
        exchange(self.server, &whole("order-1")).await.parsed().assert_is_first_of(1);
        exchange(self.server, &whole("order-1")).await.parsed().assert_is_replay_of(1);
        self.assert_ran(1);
        assert_eq!(self.backend.commands(), 3, "two claims and a completion");
    }

    #[track_caller]
    fn assert_ran(&self, runs: usize) {
        assert_eq!((self.handler.runs(), self.panics.load(Ordering::SeqCst)), (runs, 0));
    }
}

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request with its headers and body; the first header is the key.
fn post(key: &str, framing: &str, body: &str) -> Vec<u8> {
    format!("POST /payments HTTP/1.1\r\nhost: example.com\r\nidempotency-key: {key}\r\n{framing}\r\n\r\n{body}").into()
}

/// An honest request, the only one on its connection.
fn whole(key: &str) -> Vec<u8> {
    post(key, "connection: close\r\ncontent-length: 5", "order")
}

/// Sends `bytes`. All that came until the server closed; it may close before it has read everything.
async fn send(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(server).await.unwrap();
    let (mut receiver, mut sender) = stream.into_split();
    let mut answer = Vec::new();
    let exchange = async {
        let _ = sender.write_all(bytes).await;
        // A reset ends the answer as well.
        let _ = receiver.read_to_end(&mut answer).await;
    };
    timeout(PATIENCE, exchange).await.expect("the server does not close");
    answer
}

/// Sends `bytes` and says that no more will come.
async fn send_all_there_is(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(server, bytes).await;
    stream.shutdown().await.unwrap();
    read_until_closed(stream).await
}

pub(crate) async fn a_body_longer_than_declared_is_cut_and_the_rest_does_not_run(backend: BoxBackend) {
    let service = Service::new(backend).await;

    // What follows the declared five bytes is the next request, and none that HTTP knows.
    let answer = send(service.server, &post("order-1", "content-length: 5", "order and a tip\r\n\r\n")).await;
    let text = String::from_utf8(answer).unwrap();
    assert_eq!(text.matches("HTTP/1.1 201 ").count(), 1, "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1 + text.matches("HTTP/1.1 400 ").count(), "{text}");
    exchange(service.server, &whole("order-1")).await.parsed().assert_is_replay_of(1);
    service.assert_ran(1);
}

pub(crate) async fn a_body_shorter_than_declared_leaves_nothing(backend: BoxBackend) {
    let service = Service::new(backend).await;

    for (framing, body) in [
        ("content-length: 6", ""),
        ("content-length: 6", "order"),
        ("content-length: 1000", "order"),
        ("transfer-encoding: chunked", ""),
        ("transfer-encoding: chunked", "5\r\norder\r\n"),
        ("transfer-encoding: chunked", "5\r\norder\r\n0\r\n"),
    ] {
        let sent = post("order-1", framing, body);
        service.assert_refused(&sent, &send_all_there_is(service.server, &sent).await);
    }
    service.assert_untouched().await;
}

pub(crate) async fn a_length_that_is_none_leaves_nothing(backend: BoxBackend) {
    let service = Service::new(backend).await;

    for length in ["-1", "-5", "+5", "five", "0x5", "5.0", "5 5", "5, 6", "18446744073709551616", "\u{665}"] {
        service.assert_refuses(&post("order-1", &format!("content-length: {length}"), "order")).await;
        let mut order = request(Method::POST, "/payments", "order-1", "order");
        order.headers_mut().insert("content-length", HeaderValue::from_bytes(length.as_bytes()).unwrap());
        service.assert_refuses_http2(order).await;
    }
    let twice = "content-length: 5\r\ncontent-length: 6";
    service.assert_refuses(&post("order-1", twice, "order")).await;
    service.assert_untouched().await;
}

pub(crate) async fn a_chunk_that_is_none_leaves_nothing(backend: BoxBackend) {
    let service = Service::new(backend).await;

    for chunks in [
        "-5\r\norder\r\n0\r\n\r\n",
        "\r\norder\r\n0\r\n\r\n",
        "5 5\r\norder\r\n0\r\n\r\n",
        "fffffffffffffffff\r\norder\r\n0\r\n\r\n",
        "5\r\norders\r\n0\r\n\r\n",
        "5\norder\r\n0\r\n\r\n",
    ] {
        service.assert_refuses(&post("order-1", "transfer-encoding: chunked", chunks)).await;
    }
    service.assert_untouched().await;
}

pub(crate) async fn a_client_that_expects_100_gets_it_and_then_its_answer(backend: BoxBackend) {
    let service = Service::new(backend).await;
    let framing = "connection: close\r\nexpect: 100-continue\r\ncontent-length: 5";

    for replays in [false, true] {
        let mut stream = connect(service.server, &post("order-1", framing, "")).await;
        let mut interim = [0; 25];
        timeout(PATIENCE, stream.read_exact(&mut interim)).await.expect("no 100").unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"order").await.unwrap();
        let answer = RawAnswer::read(stream).await.parsed();
        if replays { answer.assert_is_replay_of(1) } else { answer.assert_is_first_of(1) }
    }
    service.assert_ran(1);
}

pub(crate) async fn a_client_that_expects_100_is_refused_before_it_sends_its_body(backend: BoxBackend) {
    let service = Service::new(backend).await;

    for (key, length, rejection) in [
        ("inner blank", 5, Rejection::KeyInvalid),
        ("order-1\r\nidempotency-key: order-2", 5, Rejection::KeyAmbiguous),
        ("order-1", LIMIT + 1, Rejection::BodyTooLarge),
    ] {
        let framing = format!("connection: close\r\nexpect: 100-continue\r\ncontent-length: {length}");
        // The first line that comes is that of the refusal: no 100 before it.
        exchange(service.server, &post(key, &framing, "")).await.parsed().assert_is(rejection);
    }
    service.assert_untouched().await;
}

pub(crate) async fn pipelined_duplicates_are_answered_in_order(backend: BoxBackend) {
    let service = Service::new(backend).await;

    let order = |key| post(key, "content-length: 5", "order");
    let sent = [order("order-1"), order("order-1"), order("order-2"), order("order-1"), whole("order-2")].concat();
    let text = String::from_utf8(read_until_closed(connect(service.server, &sent).await).await).unwrap();
    let answers: Vec<_> = text.split("HTTP/1.1 201 Created\r\n").skip(1).collect();
    let seen: Vec<_> = answers
        .iter()
        .map(|answer| (answer.contains("idempotent-replayed: true\r\n"), answer.split("\r\n\r\n").nth(1).unwrap()))
        .collect();
    let (one, two) = (r#"{"payment":1}"#, r#"{"payment":2}"#);
    assert_eq!(seen, [(false, one), (true, one), (false, two), (true, one), (true, two)], "{text}");
    service.assert_ran(2);
}

pub(crate) async fn of_a_hundred_duplicates_on_one_http2_connection_one_runs(backend: BoxBackend) {
    let service = Service::around(Handler::held_payments(), backend).await;
    let client = Client::http2(service.server).await;
    let ask = || {
        let client = client.clone();
        async move { client.ask(payment("order-1")).await }
    };

    let mut asking: JoinSet<_> = (0..100).map(|_| ask()).collect();
    for _ in 0..99 {
        asking.join_next().await.unwrap().unwrap().assert_is(Rejection::InProgress);
    }
    service.handler.open();
    asking.join_next().await.unwrap().unwrap().assert_is_first_of(1);
    let asking: JoinSet<_> = (0..100).map(|_| ask()).collect();
    for answer in asking.join_all().await {
        answer.assert_is_replay_of(1);
    }
    service.assert_ran(1);
}

pub(crate) async fn a_key_cannot_carry_another_header(backend: BoxBackend) {
    let service = Service::new(backend).await;

    for key in
        ["order-1\rx-evil: 1", "order\0-1", "\0", "order-1\r", "order-1\r\r\nx-evil: 1", "order\u{7f}1", "a\u{1}b"]
    {
        service.assert_refuses(&post(key, "connection: close\r\ncontent-length: 5", "order")).await;
    }
    for key in [r"order%0d%0ax-evil:\r\n1", r#""a\"b\\c""#] {
        // A key of visible characters, whatever it may mean elsewhere: nothing of it comes back.
        let answer = exchange(service.server, &whole(key)).await;
        assert_eq!((answer.count(b"x-evil"), answer.parsed().status), (0, StatusCode::CREATED), "{key}");
    }
    service.assert_ran(2);
}

pub(crate) async fn a_namespace_may_be_any_text(backend: BoxBackend) {
    let handler = Handler::payments();
    for (runs, namespace) in (1..).zip(["a", "a\r\nx-evil: 1", "a\0", "\0a", "a\n", "\u{e9}"]) {
        let layer = IdempotencyLayer::new(backend.clone()).namespace(namespace);
        let server = serve(handler.router().layer(layer)).await;
        let first = exchange(server, &whole("order-1")).await;
        assert_eq!(first.count(b"x-evil"), 0, "{namespace:?}");
        first.parsed().assert_is_first_of(runs);
        exchange(server, &whole("order-1")).await.parsed().assert_is_replay_of(runs);
    }
    assert_eq!(handler.runs(), 6);
}

pub(crate) async fn a_huge_head_leaves_nothing(backend: BoxBackend) {
    let service = Service::new(backend).await;

    for length in [256, 64 << 10, 1 << 20] {
        service.assert_refuses(&whole(&"k".repeat(length))).await;
    }
    service.assert_refuses(&whole(&"order-1\r\nx-a: b".repeat(200))).await;
    let order = request(Method::POST, "/payments", &"k".repeat(64 << 10), "order");
    service.assert_refuses_http2(order).await;
    service.assert_untouched().await;
}

pub(crate) async fn http_1_0_is_served(backend: BoxBackend) {
    let service = Service::new(backend).await;

    let order = |framing: &str, body: &str| {
        let head = format!("POST /payments HTTP/1.0\r\nidempotency-key: order-1\r\n{framing}\r\n\r\n");
        (head + body).into_bytes()
    };
    // It has no chunks, and without a length no request body.
    service.assert_refuses(&order("transfer-encoding: chunked", "5\r\norder\r\n0\r\n\r\n")).await;
    exchange(service.server, &order("content-length: 5", "order")).await.parsed().assert_is_first_of(1);
    exchange(service.server, &order("content-length: 5", "order")).await.parsed().assert_is_replay_of(1);
    exchange(service.server, &order("content-length: 4", "orde")).await.parsed().assert_is(Rejection::Mismatch);
    service.assert_ran(1);
}
