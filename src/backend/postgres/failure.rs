//! What the errors of a server, a connection or a pool mean to the caller of a backend.

use std::{future::Future, io, time::Duration};

use sqlx::{
    Error,
    error::DatabaseError,
    postgres::{PgDatabaseError, PgSeverity},
};
use tokio::time::timeout;

use crate::{BackendError, BackendErrorKind};

/// The answer of one command, which has to come within `limit`.
pub(super) async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, BackendError> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(backend_error),
        Err(_elapsed) => Err(BackendError::timed_out()),
    }
}

pub(super) fn backend_error(error: Error) -> BackendError {
    BackendError::new(kind(&error)).because(error)
}

fn kind(error: &Error) -> BackendErrorKind {
    match error {
        Error::PoolTimedOut => BackendErrorKind::TimedOut,
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => BackendErrorKind::TimedOut,
        Error::ColumnDecode { .. } | Error::Decode(_) => BackendErrorKind::Corrupt,
        Error::Database(error) => match code(&**error).as_str() {
            DISK_FULL => BackendErrorKind::Full,
            QUERY_CANCELED | LOCK_NOT_AVAILABLE => BackendErrorKind::TimedOut,
            _ => BackendErrorKind::Unavailable,
        },
        _ => BackendErrorKind::Unavailable,
    }
}

/// Whether the server gave up a statement for the sake of another one, and it can be sent again at once.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Database(error) if [SERIALIZATION_FAILURE, DEADLOCK_DETECTED].contains(&&*code(&**error)))
}

/// Whether `error`, the answer to COMMIT, says that the transaction was rolled back. What breaks a connection, or comes
/// from a pooler in between, says nothing of it.
pub(super) fn is_settled(error: &Error) -> bool {
    let Error::Database(error) = error else { return false };
    let code = code(&**error);
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    severity == Some(PgSeverity::Error)
        && code != COMPLETION_UNKNOWN
        && ![CONNECTION_EXCEPTION, OPERATOR_INTERVENTION, SYSTEM_ERROR, INTERNAL_ERROR]
            .iter()
            .any(|class| code.starts_with(class))
}

/// Whether a connection is of no more use after `error`: it is broken, or its server is about to end, or has become a
/// replica.
pub(super) fn ends_connection(error: &Error) -> bool {
    match error {
        Error::Database(error) => {
            let code = code(&**error);
            code == READ_ONLY || code.starts_with(OPERATOR_INTERVENTION) && code != QUERY_CANCELED
        }
        Error::ColumnDecode { .. } | Error::Decode(_) => false,
        _ => true,
    }
}

fn code(error: &dyn DatabaseError) -> String {
    error.code().map(Into::into).unwrap_or_default()
}

const CONNECTION_EXCEPTION: &str = "08";
const READ_ONLY: &str = "25006";
const SERIALIZATION_FAILURE: &str = "40001";
const COMPLETION_UNKNOWN: &str = "40003";
const DEADLOCK_DETECTED: &str = "40P01";
const DISK_FULL: &str = "53100";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const OPERATOR_INTERVENTION: &str = "57";
const QUERY_CANCELED: &str = "57014";
const SYSTEM_ERROR: &str = "58";
const INTERNAL_ERROR: &str = "XX";

#[cfg(test)]
mod tests;
