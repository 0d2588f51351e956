//! What the errors of a server or a connection mean to the caller of a backend.

use std::{future::Future, time::Duration};

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::time::timeout;

use crate::{BackendError, BackendErrorKind};

/// The answer of one command, or of its fallback too, which has to come within `limit`.
pub(super) async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = RedisResult<T>>,
) -> Result<T, BackendError> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(backend_error),
        Err(_elapsed) => Err(BackendError::timed_out()),
    }
}

fn backend_error(error: RedisError) -> BackendError {
    BackendError::new(kind(&error)).because(error)
}

fn kind(error: &RedisError) -> BackendErrorKind {
    if says(error, "WRONGTYPE") {
        BackendErrorKind::Corrupt
    } else if says(error, "OOM") {
        BackendErrorKind::Full
    } else if says(error, "invalid bulk length") {
        BackendErrorKind::TooLarge
    } else if error.is_timeout() {
        BackendErrorKind::TimedOut
    } else {
        BackendErrorKind::Unavailable
    }
}

/// Whether the server's error has the code `what`, or contains it: servers before Redis 7 wrap the errors of a script's
/// commands in one of their own.
pub(super) fn says(error: &RedisError, what: &str) -> bool {
    error.code() == Some(what) || error.detail().is_some_and(|detail| detail.contains(what))
}

/// Whether a server answered, and would not have us: waiting does not help.
pub(super) fn is_refusal(error: &BackendError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<RedisError>());
    cause.is_some_and(|cause| matches!(cause.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig))
}
