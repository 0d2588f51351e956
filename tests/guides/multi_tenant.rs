use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::post,
};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

static PAYMENTS: AtomicU64 = AtomicU64::new(0);

/// Who sent a request, as determined by authentication.
#[derive(Clone)]
struct Tenant(&'static str);

async fn authenticate(mut request: Request, next: Next) -> Response {
    let token = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let tenant = match token {
        Some(b"Bearer acme-1" | b"Bearer acme-2") => Tenant("acme"), // tokens change, tenants do not
        Some(b"Bearer umbrella-1") => Tenant("umbrella"),
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    request.extensions_mut().insert(tenant);
    next.run(request).await
}

async fn pay(amount: String) -> String {
    format!("payment {} of {amount}\n", PAYMENTS.fetch_add(1, Ordering::Relaxed) + 1)
}

fn app() -> Router {
    let idempotency = IdempotencyLayer::new(MemoryBackend::new())
        .namespace("payments")
        .require_key()
        .scope(|parts| parts.extensions.get::<Tenant>().map(|tenant| tenant.0));
    Router::new().route("/payments", post(pay)).layer(idempotency).layer(from_fn(authenticate))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
