//! [`Outcome`]: what the layer has done with a request, for layers outside.

use crate::Rejection;

/// What the layer has done with a request. Found in the extensions of its response, for logs and metrics outside.
///
/// A bypassed request has none. It costs up to three small allocations per guarded response: the extensions of a
/// response are a hash map that is made when the first one is put in.
///
/// ```
/// use tower_idempotency::Outcome;
///
/// fn was_replayed<B>(response: &http::Response<B>) -> bool {
///     response.extensions().get() == Some(&Outcome::Replayed)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler ran, and its key is completed.
    Executed,
    /// The handler ran, and its key was given back: the next request with it runs.
    Released,
    /// The handler ran, and whether its response is recorded is unknown. It is marked `idempotency-stored: false`.
    NotStored,
    /// The handler did not run: this is the first response.
    Replayed,
    /// The handler did not run: another run of the request is in progress, or its response was not kept, or its outcome
    /// is unknown. Or it ran and lost its lease, so its own response is withheld. 409; the [`Rejection`] says which.
    Conflict,
    /// The handler did not run: the key belongs to another request or to other credentials. 422.
    Mismatch,
    /// The handler did not run, for another reason: see the [`Rejection`].
    Rejected,
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::InProgress | Rejection::NotKept | Rejection::OutcomeUnknown => Self::Conflict,
            Rejection::Mismatch | Rejection::CredentialsDiffer => Self::Mismatch,
            _ => Self::Rejected,
        }
    }
}
