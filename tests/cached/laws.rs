//! The conformance suite.

use std::{sync::Arc, time::Duration};

use tower_idempotency::{CachedBackend, MemoryBackend, testing::conformance};

use crate::{distant::Distant, reference::Reference};

fn over_memory() -> CachedBackend<MemoryBackend> {
    CachedBackend::new(MemoryBackend::new(), MemoryBackend::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_in_real_time() {
    conformance(|| async { over_memory() }).await;
}

#[tokio::test(start_paused = true)]
async fn are_kept_under_a_paused_clock() {
    conformance(|| async { over_memory() }).await;
}

#[tokio::test(start_paused = true)]
async fn are_kept_over_another_backend() {
    let backend = CachedBackend::new(MemoryBackend::new(), Arc::new(Reference::default()));
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_over_a_round_trip() {
    let shared = Distant::new(MemoryBackend::new(), Duration::from_micros(300));
    conformance(|| async { CachedBackend::new(MemoryBackend::new(), shared.clone()) }).await;
}

/// Nothing but claims fits into the memory: a cache that keeps nothing is still a backend.
#[tokio::test(start_paused = true)]
async fn are_kept_with_a_memory_of_one_byte() {
    conformance(|| async { CachedBackend::new(MemoryBackend::with_limits(1, 1), Reference::default()) }).await;
}
