use std::{borrow::Cow, error::Error as _, fmt};

use sqlx::error::ErrorKind;

use super::*;

/// An error of the server with this code.
#[derive(Debug)]
struct ServerError(&'static str);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ServerError {}

impl DatabaseError for ServerError {
    fn message(&self) -> &str {
        self.0
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn server(code: &'static str) -> Error {
    Error::Database(Box::new(ServerError(code)))
}

#[test]
fn each_error_has_its_kind() {
    for (error, kind) in [
        (server("53100"), BackendErrorKind::Full),
        (server("57014"), BackendErrorKind::TimedOut),
        (server("55P03"), BackendErrorKind::TimedOut),
        (Error::PoolTimedOut, BackendErrorKind::TimedOut),
        (io::Error::from(io::ErrorKind::TimedOut).into(), BackendErrorKind::TimedOut),
        (io::Error::from(io::ErrorKind::ConnectionReset).into(), BackendErrorKind::Unavailable),
        (Error::PoolClosed, BackendErrorKind::Unavailable),
        (server("40001"), BackendErrorKind::Unavailable),
        (server("42P01"), BackendErrorKind::Unavailable),
        (server("53300"), BackendErrorKind::Unavailable),
        (server("57P01"), BackendErrorKind::Unavailable),
        (server("25006"), BackendErrorKind::Unavailable),
    ] {
        let text = error.to_string();
        let error = backend_error(error);
        assert_eq!(error.kind(), kind, "{text}");
        let cause = error.source().and_then(|cause| cause.downcast_ref::<Error>());
        assert_eq!(cause.map(ToString::to_string), Some(text));
    }
}

#[test]
fn only_what_the_server_gave_up_for_another_is_sent_again() {
    assert!(["40001", "40P01"].into_iter().all(|code| is_conflict(&server(code))));
    assert!(["23505", "53100", "57014", "XX000"].into_iter().all(|code| !is_conflict(&server(code))));
    assert!(!is_conflict(&Error::PoolTimedOut));
}

#[test]
fn connections_are_kept_unless_they_are_of_no_more_use() {
    assert!(["25006", "57P01", "57P02", "57P03"].into_iter().all(|code| ends_connection(&server(code))));
    assert!(["40001", "42P01", "57014", "55P03", "53100"].into_iter().all(|code| !ends_connection(&server(code))));
    assert!(ends_connection(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
}

#[tokio::test(start_paused = true)]
async fn a_command_ends_with_its_time_out() {
    let error = in_time(Duration::from_secs(1), std::future::pending::<Result<(), Error>>()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::TimedOut);
}
