use axum::{
    Router,
    routing::{get, post},
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

/// The recorder of this process. Without buckets, a histogram is a summary, which cannot be aggregated over processes.
fn prometheus() -> Result<PrometheusHandle, BuildError> {
    const SECONDS: [f64; 10] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];
    const BYTES: [f64; 5] = [256.0, 1024.0, 16_384.0, 131_072.0, 1_048_576.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)?
        .install_recorder()
}

fn app(prometheus: PrometheusHandle) -> Router {
    let idempotency = IdempotencyLayer::new(MemoryBackend::new()).namespace("checkout");
    Router::new()
        .route("/payments", post(|| async { "paid\n" }))
        .layer(idempotency)
        .route("/metrics", get(move || async move { prometheus.render() }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let app = app(prometheus()?); // before the layer is applied
    Ok(axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?)
}
