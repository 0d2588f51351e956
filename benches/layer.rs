//! What the layer costs in front of an axum router: without a key, on a first request, on a replay. Compare within one
//! run, against `bare`.
//!
//! ```console
//! cargo bench --bench layer
//! ```

use axum::{Router, body::Body, routing::post};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{Request, header};
use http_body_util::BodyExt;
use tokio::runtime::Builder;
use tower::{ServiceExt, layer::util::Identity};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

/// 100 bytes in, 200 bytes out.
const REQUEST: &[u8] = &[b'x'; 100];
const RESPONSE: &[u8] = &[b'y'; 200];

fn router() -> Router {
    Router::new().route("/payments", post(|_: Bytes| async { RESPONSE }))
}

fn request(key: Option<&str>) -> Request<Body> {
    let request = Request::post("http://localhost/payments").header(header::CONTENT_TYPE, "application/json");
    let request = key.into_iter().fold(request, |request, key| request.header("x-idempotency-key", key));
    request.body(Body::from(REQUEST)).unwrap()
}

async fn call(router: Router, request: Request<Body>) -> Bytes {
    router.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
}

fn layer(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("layer");
    let mut measure = |name: &str, router: &Router, mut request: Box<dyn FnMut() -> Request<Body>>| {
        group.bench_function(name, |bencher| {
            let call = |request| runtime.block_on(call(router.clone(), request));
            bencher.iter_batched(&mut request, call, BatchSize::SmallInput);
        });
    };

    let guarded = router().layer(IdempotencyLayer::new(MemoryBackend::new()));
    let mut keys = 0..;
    measure("bare", &router(), Box::new(|| request(None)));
    measure("no-op layer", &router().layer(Identity::new()), Box::new(|| request(None)));
    measure("no key", &guarded, Box::new(|| request(None)));
    measure("first", &guarded, Box::new(move || request(Some(&format!("k-{}", keys.next().unwrap_or(0))))));
    measure("replay", &guarded, Box::new(|| request(Some("replayed"))));
    group.finish();
}

criterion_group!(benches, layer);
criterion_main!(benches);
