//! What a key may look like, and what becomes of requests without one.

use std::net::SocketAddr;

use http::{HeaderValue, Method};
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Answer, Client, Counting, Handler, exchange, payment, request, serve};

const X: &str = "x-idempotency-key";
const STANDARD: &str = "idempotency-key";

type Lines<'a> = [(&'a str, &'a [u8])];

/// Sends an order with these header lines, as raw bytes: clients would not send some of them.
async fn ask(server: SocketAddr, lines: &Lines<'_>) -> Answer {
    let mut order =
        b"POST /payments HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\ncontent-length: 5\r\n".to_vec();
    for (name, value) in lines {
        order.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    order.extend_from_slice(b"\r\norder");
    exchange(server, &order).await.parsed()
}

pub(crate) async fn accepted_keys_run_once(backend: BoxBackend) {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let longest = "k".repeat(255);
    let quoted_longest = format!("\"{}\"", "q".repeat(255));

    let keys = [
        "8e03978e-40d5-43e8-bc93-6894a57f9324",
        "340282366920938463463374607431768211455",
        "340282366920938463463374607431768211454",
        "auto_8e03978e-40d5-43e8-bc93-6894a57f9324",
        "stainless-node-retry-8e03978e-40d5-43e8-bc93-6894a57f9324",
        "order:2024/11",
        "order:2024/12",
        "q83vEjRWeJ+/==",
        "Q83vEjRWeJ+/==",
        r#""quoted""#,
        r#""with\"and\\""#,
        "a,b;c=d",
        "{tag}",
        "!",
        "~",
        &longest,
        &quoted_longest,
    ];
    for (run, key) in (1..).zip(keys) {
        ask(server, &[(X, key.as_bytes())]).await.assert_is_first_of(run);
        ask(server, &[(X, key.as_bytes())]).await.assert_is_replay_of(run);
        ask(server, &[(STANDARD, key.as_bytes())]).await.assert_is_replay_of(run);
        assert_eq!(handler.runs(), run, "{key}");
    }
}

pub(crate) async fn spellings_of_one_key_are_one_key(backend: BoxBackend) {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    let spellings: [(&Lines<'_>, &[&Lines<'_>]); 2] = [
        (
            &[(X, b"order-1")],
            &[
                &[(X, b"\"order-1\"")],
                &[(STANDARD, b"order-1")],
                &[(STANDARD, b"\"order-1\"")],
                &[("X-Idempotency-KEY", b"  order-1\t")],
                &[(X, b"order-1"), (STANDARD, b"order-1")],
                &[(STANDARD, b"\"order-1\""), (X, b"order-1")],
            ],
        ),
        (&[(X, br#"a"b\c"#)], &[&[(X, br#""a\"b\\c""#)], &[(STANDARD, br#""a\"b\\c""#)]]),
    ];
    for (runs, (first, others)) in (1..).zip(spellings) {
        ask(server, first).await.assert_is_first_of(runs);
        for other in others {
            ask(server, other).await.assert_is_replay_of(runs);
            assert_eq!(handler.runs(), runs);
        }
    }
}

pub(crate) async fn refused_keys_leave_nothing(backend: BoxBackend) {
    let handler = Handler::payments();
    let backend = Counting::new(backend);
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await;
    let (too_long, ten_kilobytes) = ("k".repeat(256), "k".repeat(10 * 1024));
    let quoted_too_long = format!("\"{too_long}\"");

    let invalid: [&[u8]; 19] = [
        b"",
        b"  ",
        b"\"\"",
        b"\"",
        b"\"order",
        b"\"order\"1",
        b"\"order\";p=1",
        br#""or\der""#,
        br#""order\"#,
        b"inner blank",
        b"\"inner blank\"",
        b"order-1, order-2",
        b"tab\there",
        b"caf\xe9",
        b"\xff",
        "é".as_bytes(),
        too_long.as_bytes(),
        quoted_too_long.as_bytes(),
        ten_kilobytes.as_bytes(),
    ];
    for key in invalid {
        for name in [X, STANDARD] {
            let answer = ask(server, &[(name, key)]).await;
            answer.assert_is(Rejection::KeyInvalid);
            let text = String::from_utf8_lossy(&answer.body);
            assert!(key.len() < 5 || !text.contains(&*String::from_utf8_lossy(key)), "the key is echoed: {text}");
        }
    }
    let ambiguous: [&Lines<'_>; 5] = [
        &[(X, b"order-1"), (X, b"order-1")],
        &[(X, b"order-1"), (X, b"order-2")],
        &[(STANDARD, b"order-1"), (STANDARD, b"order-1")],
        &[(X, b"order-1"), (STANDARD, b"order-2")],
        &[(X, b"order-1"), (X, b"order-1"), (STANDARD, b"order-1")],
    ];
    for lines in ambiguous {
        ask(server, lines).await.assert_is(Rejection::KeyAmbiguous);
    }
    assert_eq!((handler.runs(), backend.commands()), (0, 0));

    ask(server, &[(X, b"order-1")]).await.assert_is_first_of(1);
    assert_eq!(backend.commands(), 2, "a claim and its completion");
}

pub(crate) async fn requests_without_a_key_run_each_time(backend: BoxBackend) {
    let handler = Handler::payments();
    let backend = Counting::new(backend);
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await;

    for client in Client::both(server).await {
        for _ in 0..3 {
            let runs = handler.runs();
            let mut order = payment("");
            order.headers_mut().remove(X);
            client.ask(order).await.assert_is_first_of(runs + 1);
        }
    }
    assert_eq!((handler.runs(), backend.commands()), (6, 0));
}

pub(crate) async fn methods_that_are_not_covered_run_each_time(backend: BoxBackend) {
    let handler = Handler::payments();
    let backend = Counting::new(backend);
    let layer = IdempotencyLayer::new(backend.clone()).require_key();
    let server = serve(handler.router().layer(layer)).await;

    let mut runs = 0;
    for client in Client::both(server).await {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            for _ in 0..2 {
                runs += 1;
                let order = request(method.clone(), "/payments", "order-1", "");
                client.ask(order).await.assert_is_first_of(runs);
            }
        }
    }
    assert_eq!((handler.runs(), backend.commands()), (12, 0));
}

pub(crate) async fn a_required_key_that_is_missing_is_refused(backend: BoxBackend) {
    let handler = Handler::payments();
    let backend = Counting::new(backend);
    let layer = IdempotencyLayer::new(backend.clone()).require_key();
    let server = serve(handler.router().layer(layer)).await;

    for client in Client::both(server).await {
        for method in [Method::POST, Method::PATCH] {
            let mut order = request(method, "/payments", "", "order");
            order.headers_mut().remove(X);
            client.ask(order).await.assert_is(Rejection::KeyMissing);
        }
    }
    assert_eq!((handler.runs(), backend.commands()), (0, 0));

    let client = Client::http1(server);
    client.ask(payment("order-1")).await.assert_is_first_of(1);
    client.ask(payment("order-1")).await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn namespaces_are_separate(backend: BoxBackend) {
    let handler = Handler::payments();
    let named = |name| handler.router().layer(IdempotencyLayer::new(backend.clone()).namespace(name));
    let servers = [serve(named("orders")).await, serve(named("refunds")).await, serve(named("")).await];

    let order = || {
        let mut order = payment("order-1");
        order.headers_mut().insert("host", HeaderValue::from_static("example.com"));
        order
    };
    for (run, server) in (1..).zip(servers) {
        Client::http1(server).ask(order()).await.assert_is_first_of(run);
    }
    for (run, server) in (1..).zip(servers) {
        Client::http1(server).ask(order()).await.assert_is_replay_of(run);
    }
    // The same namespace at another server is the same namespace.
    let twin = serve(named("orders")).await;
    Client::http1(twin).ask(order()).await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 3);
}
