use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

static PAYMENTS: AtomicU64 = AtomicU64::new(0);

async fn pay(amount: String) -> (StatusCode, String) {
    tokio::time::sleep(Duration::from_millis(500)).await; // a bank takes its time
    let payment = PAYMENTS.fetch_add(1, Ordering::Relaxed) + 1;
    (StatusCode::CREATED, format!("payment {payment} of {amount}\n"))
}

fn app() -> Router {
    let idempotency = IdempotencyLayer::new(MemoryBackend::new()).wait(Duration::from_secs(10));
    Router::new().route("/payments", post(pay)).layer(idempotency)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
