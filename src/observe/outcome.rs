//! What became of a request, in the words of spans and labels.

#![cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "labels need all of the words, events some"))]

use http::{Extensions, Response};

use crate::{Outcome, Processed, Rejection, RunError};

const EXECUTED: &str = "executed";
const RELEASED: &str = "released";
const NOT_STORED: &str = "not_stored";
const REPLAYED: &str = "replayed";
/// The run has panicked.
pub(super) const PANICKED: &str = "panicked";
/// Nobody has got an answer, nor has anything run: its client left while it waited, or the runtime was shut down.
pub(super) const ABANDONED: &str = "abandoned";
/// The service, or the handler of a message, returned an error.
const FAILED: &str = "failed";

/// Every word that there is.
pub(super) const OUTCOMES: [&str; 20] = [
    EXECUTED,
    RELEASED,
    NOT_STORED,
    REPLAYED,
    "in_progress",
    "not_kept",
    "outcome_unknown",
    "mismatch",
    "credentials_differ",
    "backend_unavailable",
    "key_missing",
    "key_invalid",
    "key_ambiguous",
    "scope_missing",
    "body_unreadable",
    "body_timed_out",
    "body_too_large",
    FAILED,
    PANICKED,
    ABANDONED,
];

/// What a request ends with.
pub(crate) trait Ending {
    /// What became of it, in one word.
    fn word(&self) -> &'static str;
}

impl<B, E> Ending for Result<Response<B>, E> {
    fn word(&self) -> &'static str {
        self.as_ref().map_or(FAILED, |response| of_response(response.extensions()))
    }
}

impl<E> Ending for Result<Processed, RunError<E>> {
    fn word(&self) -> &'static str {
        match self {
            Ok(Processed::Executed(_)) => EXECUTED,
            Ok(Processed::Released(_)) => RELEASED,
            Ok(Processed::NotStored(_)) => NOT_STORED,
            Ok(Processed::Replayed(_)) => REPLAYED,
            Err(RunError::Failed(_)) => FAILED,
            // The layer answers so, too.
            Err(RunError::InProgress | RunError::LeaseLost) => Rejection::InProgress.word(),
            Err(RunError::BackendUnavailable(_)) => Rejection::BackendUnavailable.word(),
            Err(RunError::OutcomeUnknown) => Rejection::OutcomeUnknown.word(),
            Err(RunError::Mismatch) => Rejection::Mismatch.word(),
            Err(RunError::KeyMissing) => Rejection::KeyMissing.word(),
        }
    }
}

/// What the layer has done, or why it has not: a response that ran may hold the rejection of a layer further in.
fn of_response(extensions: &Extensions) -> &'static str {
    match extensions.get() {
        Some(Outcome::Executed) => EXECUTED,
        Some(Outcome::Released) => RELEASED,
        Some(Outcome::NotStored) => NOT_STORED,
        Some(Outcome::Replayed) => REPLAYED,
        _ => extensions.get().map_or(FAILED, |rejection: &Rejection| rejection.word()),
    }
}

impl Rejection {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::KeyInvalid => "key_invalid",
            Self::KeyAmbiguous => "key_ambiguous",
            Self::ScopeMissing => "scope_missing",
            Self::BodyUnreadable => "body_unreadable",
            Self::BodyTimedOut => "body_timed_out",
            Self::BodyTooLarge => "body_too_large",
            Self::InProgress => "in_progress",
            Self::NotKept => "not_kept",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Mismatch => "mismatch",
            Self::CredentialsDiffer => "credentials_differ",
            Self::BackendUnavailable => "backend_unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_lists_every_outcome() {
        let page = include_str!("../docs/observability.md");
        let table = page.lines().skip_while(|line| !line.starts_with("| `outcome` | what")).skip(2);
        let cells = table.map_while(|line| line.strip_prefix("| ")?.split(" |").next());
        let listed: BTreeSet<_> = cells.flat_map(|cell| cell.split(", ")).map(|word| word.trim_matches('`')).collect();
        assert_eq!(listed, BTreeSet::from(OUTCOMES));
    }
}
