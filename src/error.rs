//! [`BackendError`]: why a backend could not answer.

use std::{error::Error, fmt};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A backend could not answer a command.
///
/// `Unavailable` and `TimedOut` never mean that the command was *not* executed: its reply may have been lost, so the
/// layer sends it again. The other kinds are answers: the command changed nothing.
///
/// ```
/// use std::{error::Error, io};
/// use tower_idempotency::{BackendError, BackendErrorKind};
///
/// fn failed(error: io::Error) -> BackendError {
///     match error.kind() {
///         io::ErrorKind::TimedOut => BackendError::new(BackendErrorKind::TimedOut),
///         io::ErrorKind::InvalidData => BackendError::corrupt(error),
///         _ => BackendError::unavailable(error),
///     }
/// }
///
/// let error = failed(io::Error::other("disk on fire"));
/// assert_eq!(error.kind(), BackendErrorKind::Unavailable);
/// assert_eq!(error.source().unwrap().to_string(), "disk on fire");
/// ```
#[derive(Debug)]
pub struct BackendError {
    kind: BackendErrorKind,
    source: Option<BoxError>,
}

/// What kept a backend from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// The store could not be reached, or failed.
    Unavailable,
    /// The store did not answer in time.
    TimedOut,
    /// The store holds so many live claims that it has no room for another. The command changed nothing.
    Full,
    /// The record is larger than the store can ever keep. The command changed nothing; the layer completes the key with
    /// a tombstone instead.
    TooLarge,
    /// The store returned a value that is not of this crate, or of a newer version. The command changed nothing, and
    /// the request is refused whatever the [`BackendFailure`](crate::BackendFailure), as the key is in use.
    Corrupt,
}

impl BackendError {
    /// An error of `kind`, without a cause in [`source`](Error::source).
    #[must_use]
    pub const fn new(kind: BackendErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// The store could not be reached, or failed, because of `source`.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::new(BackendErrorKind::Unavailable).because(source)
    }

    /// What the store returned could not be understood, because of `source`, such as a
    /// [`DecodeError`](crate::DecodeError).
    pub fn corrupt(source: impl Into<BoxError>) -> Self {
        Self::new(BackendErrorKind::Corrupt).because(source)
    }

    /// What kept the backend from answering.
    #[must_use]
    pub const fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    pub(crate) const fn timed_out() -> Self {
        Self::new(BackendErrorKind::TimedOut)
    }

    /// Whether the error is an answer: the command was understood, and had no effect.
    pub(crate) fn changed_nothing(&self) -> bool {
        matches!(self.kind, BackendErrorKind::Full | BackendErrorKind::TooLarge | BackendErrorKind::Corrupt)
    }

    pub(crate) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            BackendErrorKind::Unavailable => "idempotency backend unavailable",
            BackendErrorKind::TimedOut => "idempotency backend did not answer in time",
            BackendErrorKind::Full => "idempotency backend is full of live claims",
            BackendErrorKind::TooLarge => "record too large for the idempotency backend",
            BackendErrorKind::Corrupt => "idempotency backend returned a value that cannot be read",
        })
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
