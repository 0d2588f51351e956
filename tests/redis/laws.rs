//! The conformance suite.

use std::sync::Arc;

use tower_idempotency::{BoxBackend, testing::conformance};

use crate::support::{Cluster, SHARED, backend_at, fresh_backend, fresh_name};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_over_one_server() {
    let backend = fresh_backend().await;
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_over_connections_of_their_own() {
    let (url, prefix) = (SHARED.url(), fresh_name());
    conformance(|| backend_at(&url, &prefix)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_behind_pointers() {
    let backend = Arc::new(BoxBackend::new(fresh_backend().await));
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_over_a_cluster() {
    let cluster = Cluster::start();
    let backend = cluster.backend("laws:").await;
    conformance(|| async { backend.clone() }).await;
}
