//! What a client sees of its first response through the layer is what it would see without it.

use std::{io, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, channel::Channel};
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Answer, Client, Handler, payment, serve};

/// What becomes of a duplicate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Duplicate {
    Replayed,
    Runs,
    NotKept,
}
use Duplicate::{NotKept, Replayed, Runs};

type Make = fn() -> Response<Body>;

const HANDLERS: [(&str, Duplicate, Make); 35] = [
    ("empty", Replayed, || status(200, "")),
    ("text", Replayed, || status(200, "done")),
    ("created", Replayed, || with(status(201, "{}"), &[("location", b"/payments/1")])),
    ("accepted", Replayed, || status(202, "later")),
    ("no content", Replayed, || status(204, "")),
    ("reset content", Replayed, || status(205, "")),
    ("partial content", Replayed, || with(status(206, "on"), &[("content-range", b"bytes 0-1/9")])),
    ("moved", Replayed, || with(status(301, ""), &[("location", b"/elsewhere")])),
    ("see other", Replayed, || with(status(303, ""), &[("location", b"/payments/1")])),
    ("not modified", Replayed, || with(status(304, ""), &[("etag", b"\"1\"")])),
    ("permanent redirect", Replayed, || with(status(308, ""), &[("location", b"/elsewhere")])),
    ("bad request", Replayed, || status(400, "what?")),
    ("not found", Replayed, || status(404, "nothing here")),
    ("conflict", Replayed, || status(409, "taken")),
    ("gone", Replayed, || status(410, "")),
    ("unprocessable", Replayed, || status(422, "no")),
    ("unassigned", Replayed, || status(299, "odd")),
    ("unauthorized", Runs, || with(status(401, "who?"), &[("www-authenticate", b"Basic realm=\"x\"")])),
    ("too many requests", Runs, || with(status(429, ""), &[("retry-after", b"9")])),
    ("internal error", Runs, || status(500, "broken")),
    ("unavailable", Runs, || with(status(503, ""), &[("retry-after", b"9")])),
    ("every byte", Replayed, || Response::new(Body::from((0..=255).collect::<Vec<u8>>()))),
    ("encoded", Replayed, || with(status(200, "\u{1f}\u{8}"), &[("content-encoding", b"gzip"), ("vary", b"*")])),
    ("repeated headers", Replayed, || with(status(200, ""), &[("link", b"<a>"), ("x-a", b"1"), ("link", b"<b>")])),
    ("opaque header", Replayed, || with(status(200, ""), &[("x-name", b"caf\xe9"), ("x-empty", b"")])),
    ("cookies", Replayed, || with(status(200, ""), &[("set-cookie", b"a=1"), ("set-cookie", b"b=2")])),
    ("own length", Replayed, || with(status(200, "done"), &[("content-length", b"4"), ("x-after", b"1")])),
    ("no type", Replayed, || Response::new(Body::from("x"))),
    ("one megabyte", Replayed, || Response::new(Body::from(vec![7; 1 << 20]))),
    ("more than one megabyte", NotKept, || Response::new(Body::from(vec![7; (1 << 20) + 1]))),
    ("stream", Replayed, || stream(&["one", "", "two"], None)),
    ("empty stream", Replayed, || stream(&[], None)),
    ("stream with trailers", Replayed, || stream(&["one", "two"], Some("sum"))),
    ("known length and trailers", Replayed, || {
        let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("sum"))]);
        let body = Full::from("one").with_trailers(std::future::ready(Some(Ok(trailers))));
        with(Response::new(Body::new(body)), &[("trailer", b"etag")])
    }),
    ("events", NotKept, || with(stream(&["data: 1\n\n"], None), &[("content-type", b"text/event-stream")])),
];

fn status(status: u16, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn with(mut response: Response<Body>, headers: &[(&'static str, &'static [u8])]) -> Response<Body> {
    for (name, value) in headers {
        response.headers_mut().append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    response
}

/// A body whose length nobody knows beforehand.
fn stream(chunks: &'static [&'static str], checksum: Option<&'static str>) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    tokio::spawn(async move {
        for chunk in chunks {
            tokio::time::sleep(Duration::from_millis(1)).await;
            sender.send_data(Bytes::from_static(chunk.as_bytes())).await.unwrap();
        }
        if let Some(checksum) = checksum {
            let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static(checksum))]);
            sender.send_trailers(trailers).await.unwrap();
        }
    });
    Response::new(Body::new(body))
}

/// All that can be compared: the lines of the head in their order, but for the date.
fn lines(answer: &Answer) -> Vec<(&str, &[u8])> {
    let lines = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    lines.filter(|(name, _)| *name != "date").collect()
}

pub(crate) async fn a_first_response_is_what_it_would_be_without_the_layer(backend: BoxBackend) {
    let layer = IdempotencyLayer::new(backend);
    for (name, duplicate, make) in HANDLERS {
        let (bare, guarded) = (Handler::new(move |_, _| make()), Handler::new(move |_, _| make()));
        let without = Client::both(serve(bare.router()).await).await;
        let with = Client::both(serve(guarded.router().layer(layer.clone())).await).await;
        for (runs, (without, with)) in (0..).step_by(2).zip(without.iter().zip(&with)) {
            let order = || payment(&format!("{name}-{runs}").replace(' ', "-"));
            let (expected, first) = (without.ask(order()).await, with.ask(order()).await);
            assert_eq!(first.status, expected.status, "{name}");
            assert_eq!(lines(&first), lines(&expected), "{name}");
            assert!(first.body == expected.body, "{name}: {:?} is not {:?}", first.body, expected.body);
            assert_eq!(first.trailers, expected.trailers, "{name}");

            let before = guarded.runs();
            let second = with.ask(order()).await;
            assert_eq!(guarded.runs(), before + usize::from(duplicate == Runs), "{name}");
            match duplicate {
                Runs => assert!(!second.is_replay(), "{name}"),
                NotKept => second.assert_is(Rejection::NotKept),
                Replayed => {
                    assert!(second.is_replay(), "{name}");
                    assert_eq!((second.status, second.body == first.body), (first.status, true), "{name}");
                    if without.is_http2() {
                        assert_eq!(second.trailers, first.trailers, "{name}");
                    }
                }
            }
        }
    }
}
