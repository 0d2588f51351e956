//! Requests that one program reads differently than another.

use std::net::SocketAddr;

use tower_idempotency::{IdempotencyLayer, MemoryBackend, Rejection};

use crate::support::{Answer, Handler, exchange, serve};

fn layer() -> IdempotencyLayer<MemoryBackend> {
    IdempotencyLayer::new(MemoryBackend::new())
}

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
    ] {
        send(server, target, lines).await.assert_is(Rejection::Mismatch);
    }
    assert_eq!(handler.runs(), 1);
}
