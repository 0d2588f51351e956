//! What a replay is made of.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use tower_idempotency::{BoxBackend, IdempotencyLayer};

use super::support::{Client, Handler, exchange, payment, request, serve};

type Make = fn() -> Response<Body>;

/// Responses that are recorded, each under a path of its own.
const RECORDED: [(&str, Make); 11] = [
    ("/json", || respond(StatusCode::CREATED, &[("content-type", b"application/json")], "{}")),
    ("/repeated", || {
        respond(StatusCode::OK, &[("link", b"</1>; rel=prev"), ("x-b", b"1"), ("link", b"</3>; rel=next")], "")
    }),
    ("/order", || {
        respond(StatusCode::OK, &[("x-z", b"1"), ("etag", b"\"e\""), ("x-a", b"2"), ("content-type", b"a/b")], "b")
    }),
    ("/raw", || respond(StatusCode::OK, &[("x-name", b"caf\xe9"), ("x-empty", b"")], "caf\u{e9}")),
    ("/bytes", || respond(StatusCode::OK, &[], (0..=255).collect::<Vec<u8>>())),
    ("/no-content", || respond(StatusCode::NO_CONTENT, &[("etag", b"\"e\"")], "")),
    ("/empty", || respond(StatusCode::OK, &[], "")),
    ("/see-other", || respond(StatusCode::SEE_OTHER, &[("location", b"/payments/1?a=b#c")], "")),
    ("/not-found", || respond(StatusCode::NOT_FOUND, &[("content-type", b"text/plain")], "no such account")),
    ("/own-length", || respond(StatusCode::OK, &[("content-length", b"3"), ("x-a", b"1")], "abc")),
    ("/large", || respond(StatusCode::OK, &[("content-type", b"a/b")], vec![7; 1 << 20])),
];

fn respond(status: StatusCode, headers: &[(&'static str, &[u8])], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    response
}

/// Answers with what `RECORDED` says of the path.
fn recorded(request: &Request<Bytes>) -> Response<Body> {
    RECORDED.iter().find(|(path, _)| *path == request.uri().path()).expect("a known path").1()
}

pub(crate) async fn a_replay_equals_the_first_response(backend: BoxBackend) {
    let handler = Handler::new(|_, request| recorded(request));
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let [http1, http2] = Client::both(server).await;

    for (runs, (path, make)) in (1..).zip(RECORDED) {
        let order = || request(Method::POST, path, path, "order");
        let first = http2.ask(order()).await;
        assert_eq!(first.status, make().status(), "{path}");
        assert!(make().headers().iter().all(|(name, value)| first.headers.get_all(name).iter().any(|it| it == value)));
        assert_eq!(first.body, axum::body::to_bytes(make().into_body(), usize::MAX).await.unwrap(), "{path}");
        assert!(!first.headers.contains_key("idempotency-stored"), "{path}");
        http2.ask(order()).await.assert_replays(&first);
        // The other protocol may write its own headers, but not another response.
        let elsewhere = http1.ask(order()).await;
        assert!(elsewhere.is_replay(), "{path}");
        assert_eq!((elsewhere.status, elsewhere.body), (first.status, first.body), "{path}");
        assert_eq!(handler.runs(), runs, "{path}");
    }
}

/// Neither has a body. The length that they say is that of the answer to GET.
pub(crate) async fn a_replay_of_an_answer_to_head_says_the_same_length(backend: BoxBackend) {
    let handler = Handler::new(|_, _| Response::new(Body::from("answer")));
    let layer = IdempotencyLayer::new(backend).cover(|head| head.method == Method::HEAD);
    let server = serve(handler.router().layer(layer)).await;

    let order = b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nidempotency-key: order-1\r\n\r\n";
    let first = exchange(server, order).await;
    assert_eq!(first.count(b"content-length: 6"), 1, "{first:?}");
    exchange(server, order).await.assert_replays(&first);
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn a_replay_has_the_same_bytes_on_the_wire(backend: BoxBackend) {
    let handler = Handler::new(|_, request| recorded(request));
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    for (runs, (path, _)) in (1..).zip(RECORDED) {
        let order = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nidempotency-key: {path}\r\n\
             content-length: 5\r\n\r\norder"
        );
        let first = exchange(server, order.as_bytes()).await;
        let second = exchange(server, order.as_bytes()).await;
        second.assert_replays(&first);
        exchange(server, order.as_bytes()).await.assert_replays(&first);
        assert_eq!(handler.runs(), runs, "{path}");
        match path {
            "/repeated" => assert_eq!(second.count(b"link: <"), 2),
            "/raw" => assert_eq!(second.count(b"x-name: caf\xe9"), 1),
            "/no-content" => assert_eq!(second.count(b"content-length:"), 0),
            "/large" => assert_eq!(second.body, vec![7; 1 << 20]),
            _ => {}
        }
    }
}

pub(crate) async fn large_encoded_and_framed_bodies_are_replayed_byte_for_byte(backend: BoxBackend) {
    const LENGTH: usize = 5 << 20;
    let bytes: Bytes = (0..LENGTH).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let sent = bytes.clone();
    let handler = Handler::new(move |_, request| match request.uri().path() {
        // The magic number of gzip, and no text after it.
        "/encoded" => {
            respond(StatusCode::OK, &[("content-encoding", b"gzip")], &b"\x1f\x8b\x08\0\0\0\0\0\xff\xfe\r\n"[..])
        }
        "/framed" => {
            let frames: Vec<_> =
                (0..LENGTH).step_by(60_000).map(|at| sent.slice(at..LENGTH.min(at + 60_000))).collect();
            let frames = frames.into_iter().map(|frame| Ok::<_, io::Error>(Frame::data(frame)));
            Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))))
        }
        _ => respond(StatusCode::OK, &[], sent.clone()),
    });
    let layer = IdempotencyLayer::new(backend).limits(0, LENGTH);
    let server = serve(handler.router().layer(layer)).await;

    let mut runs = 0;
    for client in Client::both(server).await {
        for path in ["/large", "/encoded", "/framed"] {
            runs += 1;
            let order = || request(Method::POST, path, &format!("order-{runs}"), "");
            let first = client.ask(order()).await;
            if path == "/encoded" {
                assert_eq!(
                    (first.body.len(), &first.headers["content-encoding"]),
                    (12, &HeaderValue::from_static("gzip"))
                );
            } else {
                assert!(first.body == bytes, "{path}: the body has changed");
            }
            let replay = client.ask(order()).await;
            assert!(replay.is_replay(), "{path}");
            assert!(replay.body == first.body, "{path}: the replayed body differs");
            assert_eq!(replay.headers.get("content-encoding"), first.headers.get("content-encoding"));
            assert_eq!(handler.runs(), runs, "{path}");
        }
    }
}

pub(crate) async fn what_belongs_to_one_connection_or_moment_is_not_replayed(backend: BoxBackend) {
    const DROPPED: [(&str, &[u8]); 9] = [
        ("set-cookie", b"session=1"),
        ("set-cookie", b"theme=dark"),
        ("date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
        ("www-authenticate", b"Basic realm=a"),
        ("authentication-info", b"nextnonce=1"),
        ("proxy-authenticate", b"Basic realm=b"),
        ("keep-alive", b"timeout=5"),
        ("connection", b"X-Hop"),
        ("x-hop", b"1"),
    ];
    let handler = Handler::new(|_, _| {
        let mut response = respond(StatusCode::CREATED, &DROPPED, "paid");
        response.headers_mut().insert("x-kept", HeaderValue::from_static("1"));
        response
    });
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let client = Client::http1(server);

    let first = client.ask(payment("order-1")).await;
    for (name, value) in DROPPED {
        assert!(first.headers.get_all(name).iter().any(|sent| sent.as_bytes() == value), "{name}: {first:?}");
    }
    let replay = client.ask(payment("order-1")).await;
    assert!(replay.is_replay());
    assert_eq!((&replay.headers["x-kept"], &replay.body[..]), (&HeaderValue::from_static("1"), &b"paid"[..]));
    for (name, value) in DROPPED {
        // hyper writes a date of its own.
        assert!(replay.headers.get_all(name).iter().all(|sent| sent.as_bytes() != value), "{name}: {replay:?}");
    }
    let names: Vec<_> = replay.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names.len(), 4, "x-kept, the marker, and hyper's length and date: {names:?}");
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn markers_that_are_not_the_layers_own_are_stripped(backend: BoxBackend) {
    let handler = Handler::new(|_, request| {
        assert!(!request.headers().contains_key("idempotent-replayed"), "the client's marker reaches the handler");
        assert!(!request.headers().contains_key("idempotency-stored"), "the client's marker reaches the handler");
        let markers: [(&str, &[u8]); 3] =
            [("idempotent-replayed", b"true"), ("idempotency-stored", b"false"), ("idempotent-replayed", b"maybe")];
        let status = if request.uri().path() == "/failing" { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        respond(status, &markers, "paid")
    });
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    for client in Client::both(server).await {
        let runs = handler.runs();
        for path in ["/paying", "/failing"] {
            let order = || {
                let mut order = request(Method::POST, path, &format!("order-{path}-{runs}"), "");
                order.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
                order.headers_mut().insert("idempotency-stored", HeaderValue::from_static("false"));
                order
            };
            let first = client.ask(order()).await;
            assert_eq!(first.body, "paid", "the handler has not panicked");
            assert!(!first.headers.contains_key("idempotent-replayed"), "{first:?}");
            assert!(!first.headers.contains_key("idempotency-stored"), "{first:?}");
            let again = client.ask(order()).await;
            let markers: Vec<_> = again.headers.get_all("idempotent-replayed").iter().collect();
            assert_eq!(markers, if path == "/paying" { vec!["true"] } else { vec![] });
            assert!(!again.headers.contains_key("idempotency-stored"), "{again:?}");
        }
        assert_eq!(handler.runs(), runs + 3);
    }
}
