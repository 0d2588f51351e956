//! The conformance suite.

use std::{sync::Arc, time::Duration};

use tower_idempotency::{BoxBackend, sqlx::postgres::PgPoolOptions, testing::conformance};

use crate::support::{SHARED, backend_at, fresh_backend, fresh_name, patient};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_over_one_pool() {
    let backend = patient(fresh_backend().await);
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_over_pools_of_their_own() {
    let table = fresh_name();
    conformance(|| async { patient(backend_at(SHARED.pool(5), &table).await) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_behind_pointers() {
    let backend = Arc::new(BoxBackend::new(patient(fresh_backend().await)));
    conformance(|| async { backend.clone() }).await;
}

/// Users may have set what their transactions are like.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_where_transactions_are_serializable() {
    let address = SHARED.address().options([("default_transaction_isolation", "serializable")]);
    let pool = PgPoolOptions::new().connect_lazy_with(address);
    let backend = patient(backend_at(pool, &fresh_name()).await);
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn are_kept_while_what_has_expired_is_deleted() {
    let backend = patient(fresh_backend().await).clean_up_by(100, Duration::from_millis(5));
    conformance(|| async { backend.clone() }).await;
}
