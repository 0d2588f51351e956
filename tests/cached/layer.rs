//! What the layer makes of it.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    CachedBackend, Idempotency, IdempotencyLayer, MemoryBackend, Outcome,
    testing::{Command, FaultyBackend, InnerService},
};

use crate::distant::Distant;

type Shared = FaultyBackend<Distant>;
type Service = Idempotency<InnerService, CachedBackend<Shared>>;

fn node(shared: &Shared) -> Service {
    IdempotencyLayer::new(CachedBackend::new(MemoryBackend::new(), shared.clone())).layer(InnerService::new())
}

async fn pay(service: &Service, key: &'static str, body: &'static str) -> (StatusCode, Outcome) {
    let request = Request::post("http://localhost/payments").header("idempotency-key", key);
    let request = request.body(Full::<Bytes>::from(body)).unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    (response.status(), *response.extensions().get::<Outcome>().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_replay_and_a_mismatch_cost_nothing_where_the_record_was_seen() {
    let shared = FaultyBackend::new(Distant::new(MemoryBackend::new(), Duration::from_millis(1)));
    let (node, other) = (node(&shared), node(&shared));
    assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Executed));
    assert_eq!((shared.sent(Command::Claim), shared.sent(Command::Complete), shared.log().len()), (1, 1, 2));

    // Each is judged by its own fingerprint, in whichever order they come.
    for _ in 0..2 {
        assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Replayed));
        assert_eq!(pay(&node, "k-1", "13").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(shared.log().len(), 2);

    // Where it was not, the first of them asks, and be it a mismatch.
    assert_eq!(pay(&other, "k-1", "13").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(shared.log().len(), 3);
    assert_eq!(pay(&other, "k-1", "12").await, (StatusCode::OK, Outcome::Replayed));
    assert_eq!(shared.log().len(), 3);
}

/// While the shared backend is out of reach, what was seen is replayed, and nothing else is answered.
#[tokio::test(start_paused = true)]
async fn replays_go_on_while_the_shared_backend_is_stalled() {
    let shared = FaultyBackend::new(Distant::new(MemoryBackend::new(), Duration::from_millis(1)));
    let node = node(&shared);
    assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Executed));
    shared.stall();
    assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Replayed));
    assert_eq!(pay(&node, "k-2", "12").await.0, StatusCode::SERVICE_UNAVAILABLE);
}
