//! [`Processed`] and [`RunError`]: what became of a message.

use std::{error::Error, fmt};

use bytes::Bytes;

use crate::{
    BackendError, Record,
    codec::Content,
    protocol::{Completion, Refusal},
};

/// The message has been processed, by this call or earlier: it can be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Processed {
    /// The handler ran, and its value is recorded.
    Executed(Bytes),
    /// The handler ran, and called [`Run::release`](crate::Run::release): its value is not recorded, and the next
    /// delivery runs.
    Released(Bytes),
    /// The handler ran, but the backend did not answer in time, so it is unknown whether the value is recorded. The
    /// layer keeps trying in the background. If that fails, too, the next delivery runs again.
    NotStored(Bytes),
    /// The handler did not run, since it ran before: this is the recorded value. Or it ran and lost its lease, and this
    /// is the value of the run that took over. `None`: the value was not kept, as it was too large for the backend or
    /// the handler called [`Run::keep_without_body`](crate::Run::keep_without_body).
    Replayed(Option<Bytes>),
}

/// There is no result for the message: its handler failed, or did not run.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub enum RunError<E> {
    /// The handler returned this error. Its key is released as soon as the backend answers, unless it must be kept.
    Failed(E),
    /// The handler did not run: another delivery of the message is being processed.
    InProgress,
    /// The handler ran, but lost its lease, and no other run has recorded a value yet: one may be in progress.
    LeaseLost,
    /// The handler did not run: the backend did not answer, so nobody knows whether the message has been processed.
    BackendUnavailable(BackendError),
    /// The handler did not run: an earlier run failed, and was to be kept ([`Run::keep`](crate::Run::keep),
    /// [`at_most_once`](super::Deduplicator::at_most_once)). It may have had effects.
    OutcomeUnknown,
    /// The handler did not run: the key belongs to a message with another payload.
    Mismatch,
    /// The handler did not run: the key, or the payload of a message that is known by it, is empty.
    KeyMissing,
}

impl Processed {
    /// The value of the run. `None`: it was not kept.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Executed(value) | Self::Released(value) | Self::NotStored(value) => Some(value),
            Self::Replayed(value) => value.as_ref(),
        }
    }
}

impl<E> RunError<E> {
    /// Whether the same message may be processed when it is delivered again, later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Failed(_) | Self::InProgress | Self::LeaseLost | Self::BackendUnavailable(_) => true,
            Self::OutcomeUnknown | Self::Mismatch | Self::KeyMissing => false,
        }
    }
}

/// What a duplicate gets.
pub(super) fn replay<E>(record: &Record) -> Result<Processed, RunError<E>> {
    match record.content() {
        Ok(Content::Value(value)) => Ok(Processed::Replayed(Some(value))),
        Ok(Content::Tombstone | Content::Response(_)) => Ok(Processed::Replayed(None)),
        Ok(Content::OutcomeUnknown) => Err(RunError::OutcomeUnknown),
        Err(error) => Err(RunError::BackendUnavailable(BackendError::corrupt(error))),
    }
}

/// What a message gets that does not run.
pub(super) fn refused<E>(refusal: Refusal) -> Result<Processed, RunError<E>> {
    match refusal {
        Refusal::Replay(record) => replay(&record),
        Refusal::InProgress => Err(RunError::InProgress),
        Refusal::Mismatch | Refusal::CredentialsDiffer => Err(RunError::Mismatch),
        Refusal::Unavailable(error) => Err(RunError::BackendUnavailable(error)),
    }
}

/// What a message gets that has run and returned `value`.
pub(super) fn completed<E>(completion: Completion, value: Bytes) -> Result<Processed, RunError<E>> {
    match completion {
        Completion::Stored => Ok(Processed::Executed(value)),
        Completion::Unanswered => Ok(Processed::NotStored(value)),
        Completion::Superseded(record) => replay(&record),
        Completion::Lost => Err(RunError::LeaseLost),
    }
}

impl<E> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(_) => "the handler failed",
            Self::InProgress => "the message is being processed",
            Self::LeaseLost => "the lease was lost while the handler ran",
            Self::BackendUnavailable(_) => "whether the message has been processed is not known",
            Self::OutcomeUnknown => "the message may have been processed, and must not be repeated",
            Self::Mismatch => "the key belongs to another message",
            Self::KeyMissing => "the message has an empty key",
        })
    }
}

impl<E: Error + 'static> Error for RunError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::BackendUnavailable(error) => Some(error),
            _ => None,
        }
    }
}
