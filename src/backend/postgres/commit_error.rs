//! [`CommitError`]: what has become of a transaction that was to be committed.

use std::{error::Error, fmt};

use sqlx::Error as SqlxError;

use super::failure::is_conflict;
use crate::{BackendError, error::BoxError};

/// Why [`PostgresBackend::commit`](super::PostgresBackend::commit) did not commit a transaction, or does not know
/// whether it did. Except for [`Unknown`](Self::Unknown), the transaction was rolled back.
///
/// In all cases it is right for the handler to respond with a status that [releases the key](crate::RecordPolicy), such
/// as 503: the next request with the key runs, or gets the record of the run that has committed. With
/// [`at_most_once`](crate::IdempotencyLayer::at_most_once), which records every status, it has to call
/// [`Run::release`](crate::Run::release) as well.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// Rolled back: another run has taken over the key, or somebody has removed it.
    LeaseLost,
    /// Rolled back: the server aborted the transaction because of another one (serialization failure or deadlock,
    /// SQLSTATE 40001 and 40P01). The handler may begin it again.
    Conflict(SqlxError),
    /// Rolled back, for another reason: a deferred constraint, a broken connection, a response whose body fails.
    RolledBack(BoxError),
    /// The connection broke during the COMMIT, and its outcome could not be found out: for half a minute there was no
    /// answer, or the record and the claim are gone, removed or expired. In either case, no second run can commit as long
    /// as the record lives.
    Unknown(BackendError),
}

impl From<SqlxError> for CommitError {
    fn from(error: SqlxError) -> Self {
        if is_conflict(&error) { Self::Conflict(error) } else { Self::RolledBack(error.into()) }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaseLost => "the transaction was rolled back: its run no longer holds the key",
            Self::Conflict(_) => "the transaction was rolled back for the sake of another one",
            Self::RolledBack(_) => "the transaction was rolled back",
            Self::Unknown(_) => "whether the transaction was committed is not known",
        })
    }
}

impl Error for CommitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::LeaseLost => None,
            Self::Conflict(error) => Some(error),
            Self::RolledBack(error) => Some(&**error),
            Self::Unknown(error) => Some(error),
        }
    }
}
