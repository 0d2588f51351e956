//! Requests that one program reads differently than another.

use std::net::SocketAddr;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use tower_idempotency::{Backend, Entry, Fingerprint, IdempotencyLayer, Key, MemoryBackend, Record, Rejection};

use crate::{
    layer,
    support::{Answer, Client, Handler, exchange, request, serve},
};

/// Sends an order with this target and these lines, as they stand here.
async fn send(server: SocketAddr, target: &str, lines: &str) -> Answer {
    let order = format!(
        "POST {target} HTTP/1.1\r\nconnection: close\r\nidempotency-key: order-1\r\ncontent-length: 5\r\n\
         {lines}\r\n\r\norder"
    );
    exchange(server, order.as_bytes()).await.parsed()
}

/// Whichever of several names a handler goes by, it does not get the answer that was given under another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_authority_that_a_request_names_counts() {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(layer())).await;

    send(server, "/pay", "host: shop.example").await.assert_is_first_of(1);
    send(server, "http://shop.example/pay", "host: shop.example").await.assert_is_replay_of(1);
    send(server, "http://shop.example:80/pay", "host: SHOP.example").await.assert_is_replay_of(1);
    for (target, lines) in [
        ("http://shop.example/pay", "host: evil.example"),
        ("http://evil.example/pay", "host: shop.example"),
        ("/pay", "host: shop.example\r\nhost: evil.example"),
        ("/pay", "host: evil.example\r\nhost: shop.example"),
        ("http://shop.example/pay", "host: shop.example\r\nhost: evil.example"),
        ("http://evil@shop.example/pay", "host: shop.example"),
        ("/pay", "host: evil@shop.example"),
        ("/pay", "host: shop.example:8080"),
        ("/pay", "host: shop.example."),
        ("/pay", "host:"),
        ("/pay", "x-a: 1"),
    ] {
        send(server, target, lines).await.assert_is(Rejection::Mismatch);
    }
    let Client::Http2(_, mut sender) = Client::http2(server).await else { unreachable!("of that kind") };
    for (host, status) in [("shop.example", 201), ("evil.example", 422)] {
        let order = Request::post("http://shop.example/pay").header("idempotency-key", "order-1").header("host", host);
        assert_eq!(sender.send_request(order.body(Body::from("order")).unwrap()).await.unwrap().status(), status);
    }
    assert_eq!(handler.runs(), 1);
}

/// What a router may take for the same path is not the same request.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_spellings_of_a_path_share_an_answer() {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(layer())).await;
    send(server, "/pay/1?a=1&b=2", "host: a").await.assert_is_first_of(1);
    for target in [
        "/pay/1/?a=1&b=2",
        "//pay/1?a=1&b=2",
        "/pay//1?a=1&b=2",
        "/./pay/1?a=1&b=2",
        "/x/../pay/1?a=1&b=2",
        "/p%61y/1?a=1&b=2",
        "/pay%2f1?a=1&b=2",
        "/pay%2F1?a=1&b=2",
        "/PAY/1?a=1&b=2",
        "/pay/1;v=1?a=1&b=2",
        "/pay/1%00?a=1&b=2",
        "/pay/1?b=2&a=1",
        "/pay/1?a=1&b=2&",
        "/pay/1?a=1&b=%32",
        "/pay/1?a=1&b=2&b=3",
        "/pay/1?",
        "/pay/1",
        "/pay/1%3fa=1&b=2",
        "/pa\u{443}/1?a=1&b=2",
    ] {
        let status = send(server, target, "host: a").await.status;
        // What is not ASCII is refused by some servers.
        assert!(status == Rejection::Mismatch.status() || status == 400 && !target.is_ascii(), "{target}: {status}");
    }
    assert_eq!(handler.runs(), 1);
}

/// Servers in front and behind may take other lines for the same header. Here they are what they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_that_others_might_take_for_one_header_are_several() {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(layer())).await;
    let token = "host: a\r\nauthorization: Bearer a";
    send(server, "/pay", token).await.assert_is_first_of(1);
    for lines in [
        "host: a\r\nauthorization: Bearer a\r\nauthorization: Bearer b",
        "host: a\r\nauthorization: Bearer b\r\nauthorization: Bearer a",
        "host: a\r\nauthorization: Bearer a\r\nauthorization: Bearer a",
        "host: a\r\nauthorization: Bearer a, Bearer a",
        "host: a\r\nauthorization: bearer a",
        "host: a\r\nauthorization:",
        "host: a\r\nproxy-authorization: Bearer a",
        "host: a\r\nauthorization_: Bearer a",
    ] {
        send(server, "/pay", lines).await.assert_is(Rejection::CredentialsDiffer);
    }
    for refused in [
        "host: a\r\nauthorization : Bearer a",
        "host: a\r\nx-a: 1\r\n authorization: Bearer a",
        "host: a\r\nidempotency-key: order-2",
        "host: a\r\nx-idempotency-key: order-2",
    ] {
        assert_eq!(send(server, "/pay", refused).await.status, 400, "{refused}");
    }
    // A header of another name is not the key.
    send(server, "/pay", &format!("{token}\r\nidempotency_key: order-2")).await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

/// The response to HEAD has the length of a body, and no body.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn head_and_get_are_two_requests() {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(layer().cover(|_| true))).await;
    let mut runs = 0;
    for client in Client::both(server).await {
        for (one, other) in [(Method::HEAD, Method::GET), (Method::GET, Method::HEAD)] {
            runs += 1;
            let key = format!("order-{runs}");
            client.ask(request(one.clone(), "/pay", &key, "")).await;
            let status = client.ask(request(other, "/pay", &key, "")).await.status;
            assert_eq!((status, handler.runs()), (Rejection::Mismatch.status(), runs), "after {one}");
        }
    }
}

/// Whoever plants or damages a record must not make what follows it on the connection the answer to another request.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_lies_about_its_length_is_refused() {
    let backend = MemoryBackend::new();
    let handler = Handler::new(|_, _| {
        let mut response = Response::new(Body::from("paid\r\n"));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("6"));
        response
    });
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await;
    let client = Client::http1(server);
    let order = || request(Method::POST, "/pay", "order-1", "order");
    assert_eq!(client.ask(order()).await.body, "paid\r\n");
    let key = Key::new("", "order-1");
    let Some(Entry::Completed(record)) = backend.get(&key).await.unwrap() else { panic!("no record") };

    let bytes = record.to_bytes();
    // Behind version, kind and fingerprint, which may hold any bytes.
    let head = 2 + Fingerprint::LEN;
    let at = head + bytes[head..].windows(2).position(|pair| pair == b"\x016").expect("a length of one digit");
    for lie in [b'0', b'4', b'9', b'x'] {
        let mut bytes = bytes.to_vec();
        bytes[at + 1] = lie;
        let refused = Record::from_bytes(bytes.into()).expect_err("a lie");
        assert_eq!(refused.to_string(), "record holds an invalid length");
    }
    assert!(Record::from_bytes(bytes.slice(..bytes.len() - 1)).is_err(), "cut short");
    assert!(client.ask(order()).await.is_replay());
}

/// A response of two kinds: `/whole` has a known length, `/stream` none. Both end with markers that are not the layer's.
fn with_trailers(path: &str) -> Response<Body> {
    let trailers: HeaderMap = [
        ("idempotent-replayed", "true"),
        ("idempotency-stored", "false"),
        ("authentication-info", "nextnonce=1"),
        ("set-cookie", "session=1"),
        ("x-checksum", "9"),
    ]
    .into_iter()
    .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
    .collect();
    let frames = [Frame::data(Bytes::from_static(b"paid")), Frame::trailers(trailers)];
    let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
    let mut response = Response::new(Body::new(body));
    if path == "/whole" {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("4"));
    }
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trailers_carry_no_marker_and_no_credentials_into_a_replay() {
    let handler = Handler::new(|_, request| with_trailers(request.uri().path()));
    let server = serve(handler.router().layer(layer())).await;
    let client = Client::http2(server).await;
    for path in ["/whole", "/stream"] {
        let first = client.ask(request(Method::POST, path, path, "")).await;
        let trailers = first.trailers.expect("trailers");
        assert_eq!(first.body, "paid", "{path}");
        assert_eq!(trailers["x-checksum"], "9", "{path}");
        assert!(trailers.keys().all(|name| !name.as_str().starts_with("idempot")), "{path}: {trailers:?}");
        assert_eq!(trailers["authentication-info"], "nextnonce=1", "for whom it was made");

        let again = client.ask(request(Method::POST, path, path, "")).await;
        assert!(again.is_replay(), "{path}: {again:?}");
        let trailers: Vec<_> = again.trailers.as_ref().unwrap().keys().map(HeaderName::as_str).collect();
        assert_eq!(trailers, ["x-checksum"], "{path}");
    }

    // One that is not kept.
    let server = serve(handler.router().layer(layer().limits(1 << 20, 2))).await;
    let client = Client::http2(server).await;
    let trailers = client.ask(request(Method::POST, "/stream", "order-1", "")).await.trailers.expect("trailers");
    assert!(trailers.keys().all(|name| !name.as_str().starts_with("idempot")), "{trailers:?}");
}
