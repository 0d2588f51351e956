//! What the errors of a server or a connection mean to the caller of a backend.

use std::{future::Future, time::Duration};

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
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
    cause.is_some_and(|cause| {
        let kind = cause.kind();
        REFUSALS.contains(&kind) || says(cause, "NOAUTH")
    })
}

const REFUSALS: [ErrorKind; 3] =
    [ErrorKind::AuthenticationFailed, ErrorKind::InvalidClientConfig, ErrorKind::Server(ServerErrorKind::NoPerm)];

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(text: &str) -> RedisError {
        let reply = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        reply.extract_error().unwrap_err()
    }

    #[test]
    fn errors_that_are_answers_say_so() {
        let wrapped = "ERR Error running script (call to f_1): @user_script:4: ";
        for (text, kind) in [
            ("WRONGTYPE Operation against a key holding the wrong kind of value", BackendErrorKind::Corrupt),
            ("WRONGTYPE Operation against a key. script: 1f, on @user_script:4.", BackendErrorKind::Corrupt),
            (&format!("{wrapped}-WRONGTYPE Operation against a key"), BackendErrorKind::Corrupt),
            ("OOM command not allowed when used memory > 'maxmemory'.", BackendErrorKind::Full),
            (&format!("{wrapped}-OOM command not allowed"), BackendErrorKind::Full),
            ("ERR Protocol error: invalid bulk length", BackendErrorKind::TooLarge),
        ] {
            let error = backend_error(server_error(text));
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.changed_nothing(), "{text}");
        }
    }

    #[test]
    fn all_other_errors_leave_it_open_whether_the_command_was_executed() {
        for text in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MOVED 3999 127.0.0.1:6381",
            "NOREPLICAS Not enough good replicas to write.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "BUSY Redis is busy running a script.",
            "NOPERM this user has no permissions to run the 'set' command",
            "ERR unknown command",
        ] {
            let error = backend_error(server_error(text));
            assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{text}");
            let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<RedisError>());
            assert!(cause.is_some(), "{text}");
        }
        for (kind, expected) in [
            (std::io::ErrorKind::ConnectionRefused, BackendErrorKind::Unavailable),
            (std::io::ErrorKind::BrokenPipe, BackendErrorKind::Unavailable),
            (std::io::ErrorKind::TimedOut, BackendErrorKind::TimedOut),
        ] {
            assert_eq!(backend_error(std::io::Error::from(kind).into()).kind(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_ends_with_its_time_out() {
        let error = in_time(Duration::from_secs(1), std::future::pending::<RedisResult<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::TimedOut);
    }
}
