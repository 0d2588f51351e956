use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    Router,
    http::StatusCode,
    routing::{post, put},
};
use tower_idempotency::{IdempotencyLayer, KeySource, MemoryBackend, RecordPolicy, Rejection, Run};

static PAYMENTS: AtomicU64 = AtomicU64::new(0);

async fn pay(run: Option<Run>, amount: String) -> (StatusCode, String) {
    if let (Some(run), "0") = (run, &*amount) {
        run.release(); // nothing was done; this replaces `cache-control: no-store`
    }
    let payment = PAYMENTS.fetch_add(1, Ordering::Relaxed) + 1;
    match &*amount {
        "0" => (StatusCode::BAD_REQUEST, format!("payment {payment} of nothing\n")),
        "13" => (StatusCode::INTERNAL_SERVER_ERROR, format!("payment {payment} has failed\n")),
        _ => (StatusCode::CREATED, format!("payment {payment} of {amount}\n")),
    }
}

fn app() -> Router {
    let idempotency = IdempotencyLayer::new(MemoryBackend::new())
        .key(KeySource::header("idempotency-key")) // default here: X-Idempotency-Key as well
        .cover(|parts| !parts.method.is_safe()) // default here: POST and PATCH
        .record(RecordPolicy::everything()) // default here: all but 5xx, 408, 425, 429, 401
        .lease(Duration::from_secs(60)) // default here: 30 s
        .max_run(Duration::from_secs(10 * 60)) // default here: 1 h
        .backend_timeout(Duration::from_secs(5)) // default here: 1 s
        .limits(1 << 20, 1 << 20) // default here: 2 MiB, 1 MiB
        .on_rejection(|rejection, mut answer| {
            if rejection == Rejection::Mismatch {
                *answer.status_mut() = StatusCode::BAD_REQUEST; // default here: 422
            }
            answer
        });
    Router::new().route("/payments", post(pay)).route("/payments/1", put(pay)).layer(idempotency)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
