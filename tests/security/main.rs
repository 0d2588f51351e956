//! What an attacker would try, over real sockets, beside the tests of other suites. Each has its row in
//! `docs/security.md`.

mod callers;
#[path = "../support/failing.rs"]
mod failing;
mod keys;
mod refusals;
mod resources;
mod store;
#[path = "../behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the behaviour suites, which use more of it")]
mod support;
mod wire;

use axum::body::Body;
use http::{HeaderValue, Method, Request, request::Parts};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

fn layer() -> IdempotencyLayer<MemoryBackend> {
    IdempotencyLayer::new(MemoryBackend::new())
}

/// The order `order-1` to the same host each time, with these lines.
fn order(lines: &[(&'static str, &'static str)], body: &'static str) -> Request<Body> {
    let mut order = support::request(Method::POST, "/payments", "order-1", body);
    order.headers_mut().insert("host", HeaderValue::from_static("shop.example"));
    for (name, value) in lines {
        order.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    order
}

/// Stands for what authentication has verified.
fn user(parts: &Parts) -> Option<HeaderValue> {
    parts.headers.get("user").cloned()
}
