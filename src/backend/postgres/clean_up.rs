//! Deleting what has expired.

use std::{sync::Arc, time::Duration};

use sqlx::{PgPool, query};
use tokio::{task::AbortHandle, time::sleep};

use super::{failure::in_time, statement::Statements};
use crate::BackendError;

/// How long one batch may take. It has nobody waiting for it, and is larger than a command.
const LIMIT: Duration = Duration::from_secs(60);

/// A task that deletes what has expired, for as long as this exists.
#[derive(Debug)]
pub(super) struct Cleaner {
    pub(super) batch: u32,
    pub(super) interval: Duration,
    task: AbortHandle,
}

impl Cleaner {
    pub(super) fn start(pool: PgPool, statements: Arc<Statements>, batch: u32, interval: Duration) -> Self {
        let task = async move {
            loop {
                // Not all processes at once.
                sleep(interval.mul_f64(rand::random_range(0.75..=1.0))).await;
                // What fails now is tried again later.
                while delete_expired(&pool, &statements, batch).await.is_ok_and(|deleted| deleted >= u64::from(batch)) {
                }
            }
        };
        Self { batch, interval, task: tokio::spawn(task).abort_handle() }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn delete_expired(pool: &PgPool, statements: &Statements, batch: u32) -> Result<u64, BackendError> {
    let delete = query(&statements.delete_expired).bind(i64::from(batch)).execute(pool);
    in_time(LIMIT, delete).await.map(|done| done.rows_affected())
}
