//! What an operator sees: figures for Prometheus under `/metrics`, and logs on standard error. The service is a payments
//! API; it prints the commands that show it.
//!
//! ```console
//! cargo run --example observability --features axum,metrics,tracing
//! ```

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Run};
use tracing::Level;

/// How many payments were made.
static PAYMENTS: AtomicU64 = AtomicU64::new(0);

async fn pay(run: Option<Run>) -> (StatusCode, String) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let payment = PAYMENTS.fetch_add(1, Ordering::Relaxed) + 1;
    // In the span of the request: this line of the log has the short hash of its key.
    tracing::info!(payment, guarded = run.is_some(), "paid");
    (StatusCode::CREATED, format!("payment {payment}\n"))
}

/// The recorder of this process. Without buckets a histogram is a summary, which cannot be added up over nodes.
fn prometheus() -> Result<PrometheusHandle, Box<dyn std::error::Error>> {
    const SECONDS: [f64; 9] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0];
    const BYTES: [f64; 5] = [256.0, 1024.0, 16_384.0, 131_072.0, 1_048_576.0];
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)?;
    Ok(recorder.install_recorder()?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(std::io::stderr).with_ansi(false).init();
    let prometheus = prometheus()?;
    let layer = IdempotencyLayer::new(MemoryBackend::new()).namespace("payments").wait(Duration::from_secs(5));
    let app = Router::new()
        .route("/payments", post(pay))
        .layer(layer)
        .route("/metrics", get(move || async move { prometheus.render() }));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}");
    print_what_to_try(&url);
    Ok(axum::serve(listener, app).await?)
}

fn print_what_to_try(url: &str) {
    println!();
    println!("# Five at once: one runs, four wait for its answer");
    println!("seq 5 | xargs -P 5 -I {{}} curl -s {url}/payments -H 'X-Idempotency-Key: k-1' -d amount=1200");
    println!("# The same key for another payment: 422");
    println!("curl -s {url}/payments -H 'X-Idempotency-Key: k-1' -d amount=9900");
    println!("# The client leaves, and the payment is made: a retry gets its answer");
    let pay = format!("{url}/payments -H 'X-Idempotency-Key: k-2' -d amount=80");
    println!("curl -s --max-time 0.3 {pay} || curl -s {pay}");
    println!("# What happened, as Prometheus reads it");
    println!("curl -s {url}/metrics | grep -v '^#'");
}
