//! Responses whose length is unknown, too large, or not what was declared.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{
    BodyExt,
    channel::{Channel, Sender},
};
use tokio::sync::mpsc;
use tower::ServiceExt;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Answer, Client, Handler, connect, exchange, payment, read_until_closed, request, serve};

/// A body of these frames whose length nobody knows beforehand.
struct Frames(VecDeque<io::Result<Frame<Bytes>>>);

impl Frames {
    fn body(frames: impl IntoIterator<Item = io::Result<Frame<Bytes>>>) -> Body {
        Body::new(Self(frames.into_iter().collect()))
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front())
    }
}

fn data(bytes: &'static str) -> io::Result<Frame<Bytes>> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

fn checksum() -> HeaderMap {
    HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"sum\""))])
}

fn with_length(length: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static(length));
    response
}

/// A handler whose responses are written by the test while their clients read.
fn streaming() -> (Handler, mpsc::UnboundedReceiver<Sender<Bytes, io::Error>>) {
    let (senders, streams) = mpsc::unbounded_channel();
    let handler = Handler::new(move |_, _| {
        let (sender, body) = Channel::new(1);
        senders.send(sender).unwrap();
        Response::new(Body::new(body))
    });
    (handler, streams)
}

pub(crate) async fn a_stream_reaches_its_client_chunk_by_chunk(backend: BoxBackend) {
    let (handler, mut streams) = streaming();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let [http1, http2] = Client::both(server).await;

    for (client, key) in [(&http1, "order-1"), (&http2, "order-2")] {
        let mut response = client.send(payment(key)).await.unwrap();
        let mut stream = streams.recv().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
        assert!(!response.headers().contains_key("idempotency-stored"));
        for chunk in ["first", "second", "third"] {
            // The next chunk is not made before this one has been read.
            stream.send_data(Bytes::from(chunk)).await.unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), chunk);
            http2.ask(payment(key)).await.assert_is(Rejection::InProgress);
        }
        stream.send_trailers(checksum()).await.unwrap();
        drop(stream);
        let rest = response.into_body().collect().await.unwrap();
        if key == "order-2" {
            assert_eq!(rest.trailers(), Some(&checksum()));
        }
        assert_eq!(rest.to_bytes(), "");
        let replay = http2.ask(payment(key)).await;
        assert!(replay.is_replay());
        assert_eq!((&replay.body[..], &replay.trailers), (&b"firstsecondthird"[..], &Some(checksum())));
    }
    assert_eq!(handler.runs(), 2);
}

/// There trailers take chunks, which a server sends only while it does not know the length.
pub(crate) async fn trailers_are_replayed_over_http1(backend: BoxBackend) {
    let handler = Handler::new(|_, _| {
        let mut response = Response::new(Frames::body([data("one"), Ok(Frame::trailers(checksum()))]));
        response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("etag"));
        response
    });
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let order = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close, te\r\nte: trailers\r\n\
        idempotency-key: order-1\r\ncontent-length: 5\r\n\r\norder";

    let first = exchange(server, order).await;
    assert_eq!(first.body.escape_ascii().to_string(), r#"3\r\none\r\n0\r\netag: \"sum\"\r\n\r\n"#);
    exchange(server, order).await.assert_replays(&first);
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn a_response_above_the_limit_arrives_whole_and_is_not_kept(backend: BoxBackend) {
    let body: Bytes = (0..=1_usize << 20).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let sent = body.clone();
    let handler = Handler::new(move |_, _| Response::new(Body::from(sent.clone())));
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    for (runs, client) in (1..).zip(Client::both(server).await) {
        let key = format!("order-{runs}");
        let first = client.ask(payment(&key)).await;
        assert_eq!(first.status, StatusCode::OK);
        assert_eq!(first.headers[header::CONTENT_LENGTH], "1048577");
        assert!(first.body == body, "the body has changed");
        client.ask(payment(&key)).await.assert_is(Rejection::NotKept);
        client.ask(payment(&key)).await.assert_is(Rejection::NotKept);
        assert_eq!(handler.runs(), runs);
    }
}

pub(crate) async fn a_declared_length_makes_a_stream_recordable(backend: BoxBackend) {
    let handler =
        Handler::new(|_, _| with_length("9", Frames::body([data("one"), data(""), data("two"), data("six")])));
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    for (runs, client) in (1..).zip(Client::both(server).await) {
        let key = format!("order-{runs}");
        let first = client.ask(payment(&key)).await;
        assert_eq!(first.body, "onetwosix");
        client.ask(payment(&key)).await.assert_replays(&first);
        assert_eq!(handler.runs(), runs);
    }
}

pub(crate) async fn trailers_of_a_response_of_known_length_are_replayed(backend: BoxBackend) {
    let handler = Handler::new(|_, _| with_length("3", Frames::body([data("one"), Ok(Frame::trailers(checksum()))])));
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let client = Client::http2(server).await;

    let first = client.ask(payment("order-1")).await;
    assert_eq!((&first.body[..], &first.trailers), (&b"one"[..], &Some(checksum())));
    client.ask(payment("order-1")).await.assert_replays(&first);
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn a_body_that_exceeds_its_declared_length_is_cut_there(backend: BoxBackend) {
    let handler = Handler::new(|_, request| match request.uri().path() {
        "/between-frames" => with_length("3", Frames::body([data("one"), data("two")])),
        _ => with_length("3", Frames::body([data("on"), data("etwo")])),
    });
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let client = Client::http1(server);

    for (runs, path) in (1..).zip(["/between-frames", "/within-a-frame"]) {
        let order = || request(Method::POST, path, path, "");
        let first = client.ask(order()).await;
        assert_eq!(first.body, "one", "{path}");
        client.ask(order()).await.assert_replays(&first);
        assert_eq!(handler.runs(), runs, "{path}");
    }
}

/// Answers with nine bytes, of which the first two runs give only a few.
fn stopping_short() -> Handler {
    Handler::new(|run, _| match run {
        1 => with_length("9", Frames::body([data("one")])),
        2 => with_length("9", Frames::body([])),
        _ => with_length("9", Frames::body([data("onetwosix")])),
    })
}

pub(crate) async fn a_body_that_ends_before_its_declared_length_closes_the_connection(backend: BoxBackend) {
    let handler = stopping_short();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    // Nobody asks for the connection to be closed. If it stayed open, the client would take the next response for the
    // missing bytes.
    let order = b"POST /payments HTTP/1.1\r\nhost: a\r\nidempotency-key: order-1\r\ncontent-length: 0\r\n\r\n";
    for runs in [1, 2] {
        let bytes = read_until_closed(connect(server, order).await).await;
        assert!(!bytes.windows(9).any(|nine| nine == b"onetwosix"));
        assert_eq!(handler.runs(), runs);
    }
    let mut order = request(Method::POST, "/payments", "order-1", "");
    order.headers_mut().insert(header::HOST, HeaderValue::from_static("a"));
    let whole = Client::http1(server).ask(order).await;
    assert_eq!((&whole.body[..], whole.is_replay(), handler.runs()), (&b"onetwosix"[..], false, 3));
}

/// A server that is told another length than the header's panics or keeps the connection open, depending on its build.
pub(crate) async fn a_body_that_ends_before_its_declared_length_does_not_claim_another(backend: BoxBackend) {
    let handler = stopping_short();
    let service = handler.router().layer(IdempotencyLayer::new(backend));

    for (runs, part) in [(1, "one"), (2, "")] {
        let response = service.clone().oneshot(payment("order-1")).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "9");
        let body = response.into_body();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), part);
        assert_eq!(handler.runs(), runs);
    }
}

pub(crate) async fn a_response_body_that_fails_midway_releases_its_key(backend: BoxBackend) {
    let handler = Handler::new(|run, _| match run % 3 {
        1 => with_length("9", Frames::body([data("one"), Err(io::Error::other("disk on fire"))])),
        2 => with_length("9", Frames::body([Err(io::Error::other("disk on fire"))])),
        _ => with_length("9", Frames::body([data("onetwosix")])),
    });
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    for (round, client) in (1..).zip(Client::both(server).await) {
        let key = format!("order-{round}");
        for _ in 0..2 {
            let read = async { Answer::read(client.send(payment(&key)).await?).await };
            assert!(read.await.is_err(), "the client takes a part for the whole");
        }
        let first = client.ask(payment(&key)).await;
        assert_eq!(first.body, "onetwosix");
        client.ask(payment(&key)).await.assert_replays(&first);
        assert_eq!(handler.runs(), 3 * round);
    }
}
