//! What can be learned from the layer's own answers.

use std::{collections::BTreeSet, net::SocketAddr};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode};
use tower_idempotency::{BackendError, IdempotencyLayer, Rejection, Run};

use crate::{
    failing::Failing,
    layer, order,
    support::{Answer, Client, Handler, exchange, serve},
};

/// All of an answer but the time.
fn said(answer: &Answer) -> String {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    format!("{} {:?} {:?}", answer.status, headers.collect::<Vec<_>>(), answer.body)
}

/// What a stranger hears who asks with the key of another: with credentials of its own, or none, and another body or
/// path.
async fn probes(client: &Client) -> Vec<String> {
    let (mallory, mut elsewhere) = ([("authorization", "Bearer mallory")], order(&[], "13"));
    *elsewhere.uri_mut() = "/refunds".parse().unwrap();
    let probes: [(Request<Body>, Rejection); 4] = [
        (order(&mallory, "13"), Rejection::Mismatch),
        (order(&[], "13"), Rejection::Mismatch),
        (elsewhere, Rejection::Mismatch),
        (order(&mallory, "12"), Rejection::CredentialsDiffer),
    ];
    let mut answers = Vec::new();
    for (probe, rejection) in probes {
        let answer = client.ask(probe).await;
        answer.assert_is(rejection);
        answers.push(said(&answer));
    }
    answers
}

/// Whether the first request still runs, what it was answered, and whether that was kept: all of it sounds the same.
/// Only one thing can be heard, and by who has guessed the key: whether one's own request is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refusal_says_nothing_of_the_request_that_it_met() {
    type Make = fn(&Request<bytes::Bytes>) -> Response<Body>;
    let paid: Make = |_| Response::new(Body::from("hush: paid"));
    let refused: Make =
        |_| Response::builder().status(StatusCode::FORBIDDEN).header("hush", "1").body(Body::empty()).unwrap();
    let unkept: Make = |request| {
        request.extensions().get::<Run>().expect("a run").keep_without_body();
        Response::new(Body::from("hush"))
    };
    let mut heard = BTreeSet::new();
    for answer in [paid, refused, unkept] {
        let handler = Handler::held(move |_, request| answer(request));
        let client = Client::http1(serve(handler.router().layer(layer())).await);
        let first = tokio::spawn({
            let client = client.clone();
            async move { client.ask(order(&[("authorization", "Bearer hush")], "12")).await }
        });
        handler.entered(1).await;
        heard.insert(probes(&client).await);
        handler.open();
        first.await.unwrap();
        heard.insert(probes(&client).await);
        assert_eq!(handler.runs(), 1);
    }
    let [answers] = &Vec::from_iter(heard)[..] else { panic!("the answers differ") };
    assert!(answers.iter().all(|said| !said.contains("hush") && !said.contains("order-1")), "{answers:?}");
}

/// Sends raw lines to a target.
async fn send(server: SocketAddr, target: &str, lines: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "POST {target} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n\r\n{body}"
    );
    exchange(server, request.as_bytes()).await.parsed()
}

/// Not a word of a request stands in the answer that refuses it, whatever the word means in JSON, HTML or HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refusal_says_the_same_whatever_was_sent() {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(layer().require_key().limits(20, 20))).await;
    let plain = [
        "order-1",
        "x",
        "%0d%0aset-cookie:%20a=b",
        r#"","retryable":true,"a":""#,
        "<script>alert(1)</script>",
        "{tag}",
        "${jndi:ldap://a}",
        "%00",
        "' OR 1=1;--",
        "\u{202e}",
    ];
    send(server, "/pay", "idempotency-key: taken", "12").await.assert_is_first_of(1);
    for (rejection, lines) in [
        (Rejection::KeyMissing, "x-other: WORD"),
        (Rejection::KeyInvalid, "idempotency-key: a b WORD"),
        (Rejection::KeyAmbiguous, "idempotency-key: WORD\r\nidempotency-key: WORD"),
        (Rejection::BodyTooLarge, "idempotency-key: order-1\r\nx-other: WORD\r\nx-long: 1"),
        (Rejection::Mismatch, "idempotency-key: taken\r\nx-other: WORD"),
    ] {
        let mut heard = BTreeSet::new();
        for word in plain {
            let body = if rejection == Rejection::BodyTooLarge { word.repeat(21) } else { "13".to_owned() };
            let target = if word.is_ascii() && !word.contains([' ', '<', '"', '\'', '{']) {
                format!("/{word}?{word}")
            } else {
                "/a".to_owned()
            };
            let answer = send(server, &target, &lines.replace("WORD", word), &body).await;
            answer.assert_is(rejection);
            heard.insert(said(&answer));
        }
        assert_eq!(heard.len(), 1, "{heard:#?}");
    }
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refusal_says_nothing_of_the_store() {
    let handler = Handler::payments();
    let talkative = Failing(|| BackendError::corrupt("at redis://admin:hush@10.0.0.1: hush"));
    let client = Client::http1(serve(handler.router().layer(IdempotencyLayer::new(talkative))).await);
    for content_type in ["text/plain", "application/grpc"] {
        let answer = client.ask(order(&[("content-type", content_type)], "12")).await;
        assert!(!said(&answer).contains("hush") && !said(&answer).contains("redis"), "{answer:?}");
        match content_type {
            "application/grpc" => assert_eq!(answer.headers["grpc-status"], HeaderValue::from_static("14")),
            _ => answer.assert_is(Rejection::BackendUnavailable),
        }
    }
    assert_eq!(handler.runs(), 0);
}
