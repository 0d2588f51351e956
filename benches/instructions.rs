//! One case of the layer, a given number of times, for tools that count instructions: see `benches/instructions.sh`.

use std::env;

use axum::{Router, body::Body, routing::post};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt;
use tokio::runtime::Builder;
use tower::{ServiceExt, layer::util::Identity};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

/// 100 bytes in, 200 bytes out.
const REQUEST: &[u8] = &[b'x'; 100];
const RESPONSE: &[u8] = &[b'y'; 200];

fn request(key: Option<&str>) -> Request<Body> {
    let request = Request::post("http://localhost/payments").header(header::CONTENT_TYPE, "application/json");
    let request = key.into_iter().fold(request, |request, key| request.header("x-idempotency-key", key));
    request.body(Body::from(REQUEST)).unwrap()
}

/// The key of the request of that number.
type Keys = fn(u64) -> String;

fn main() {
    let mut arguments = env::args().skip(1);
    let case = arguments.next().expect("a case");
    let count: u64 = arguments.next().expect("how often").parse().expect("a number");
    let router = Router::new().route("/payments", post(|_: Bytes| async { RESPONSE }));
    let guarded = || router.clone().layer(IdempotencyLayer::new(MemoryBackend::new()));
    let (router, key): (Router, Option<Keys>) = match &*case {
        "bare" => (router, None),
        "no-op" => (router.layer(Identity::new()), None),
        "no-key" => (guarded(), None),
        "first" => (guarded(), Some(|request| format!("k-{request:08}"))),
        "replay" => (guarded(), Some(|_| "k-00000000".into())),
        other => panic!("no case is called {other}"),
    };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let keys: Vec<_> = (0..count).map(|request| key.map(|key| key(request))).collect();
    runtime.block_on(async {
        for key in &keys {
            let request = request(key.as_deref());
            let response = router.clone().oneshot(request).await.expect("routers do not fail");
            response.into_body().collect().await.expect("a whole body");
        }
    });
}
