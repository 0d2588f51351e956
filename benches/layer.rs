//! What the layer costs in front of an axum router: without a key, on a first request, on a replay. Compare within one
//! run, against `bare`. Then what a replay costs that a `CachedBackend` has in memory, beside one from `MemoryBackend`.
//!
//! ```console
//! cargo bench --bench layer
//! ```

#[path = "../tests/support/distant.rs"]
mod distant;

use std::time::{Duration, Instant};

use axum::{Router, body::Body, routing::post};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{Request, header};
use http_body_util::BodyExt;
use tokio::runtime::Builder;
use tower::{ServiceExt, layer::util::Identity};
use tower_idempotency::{Backend, CachedBackend, IdempotencyLayer, MemoryBackend};

use self::distant::Distant;

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

/// Replays through both backends by turns, so that what else the machine does falls on both alike.
fn cached(_: &mut Criterion) {
    const ROUNDS: usize = 201;
    const REPLAYS: u32 = 1_000;
    fn guarded(backend: impl Backend) -> Router {
        router().layer(IdempotencyLayer::new(backend))
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let shared = Distant::new(MemoryBackend::new(), Duration::ZERO);
    let routers = [guarded(MemoryBackend::new()), guarded(CachedBackend::new(MemoryBackend::new(), shared))];
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (router, times) in routers.iter().zip(&mut times) {
            let requests: Vec<_> = (0..REPLAYS).map(|_| (router.clone(), request(Some("replayed")))).collect();
            let start = Instant::now();
            for (router, request) in requests {
                runtime.block_on(call(router, request));
            }
            times.push(start.elapsed() / REPLAYS);
        }
    }
    let [memory, cached] = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    let ratio = cached.as_secs_f64() / memory.as_secs_f64();
    println!("replay, interleaved: memory {memory:.2?}, cached {cached:.2?}, {ratio:.2} times as long");
}

criterion_group!(benches, layer, cached);
criterion_main!(benches);
