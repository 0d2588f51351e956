//! The behaviour suite and the conformance suite over `MemoryBackend`.
#![cfg(feature = "memory")]

#[macro_use]
mod behaviour;

suite!(tower_idempotency::BoxBackend::new(tower_idempotency::MemoryBackend::new()));

#[cfg(feature = "test-util")]
mod laws {
    use std::sync::Arc;

    use tower_idempotency::{BoxBackend, MemoryBackend, testing::conformance};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn are_kept_in_real_time() {
        conformance(|| async { MemoryBackend::new() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn are_kept_under_a_paused_clock() {
        conformance(|| async { MemoryBackend::new() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn are_kept_behind_pointers() {
        let backend = Arc::new(BoxBackend::new(MemoryBackend::new()));
        conformance(|| async { backend.clone() }).await;
    }
}
