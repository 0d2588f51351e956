//! [`Outcome`]: what the layer has done with a request, for layers outside.

use crate::Rejection;

/// What the layer did with a request, for logs and metrics of outer layers: an extension of its response.
///
/// A bypassed request has none, nor has an error of the service. It costs up to three small allocations per guarded
/// response, as the extensions of a response are a hash map that is created with the first one.
///
/// For a response of unknown length it is determined before the end is known: it is `Executed` even if the key is
/// released later, because the body fails or its trailers contain a `grpc-status` that releases it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/send.rs"));
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use axum::{Router, routing::post};
/// use tower_idempotency::{IdempotencyLayer, MemoryBackend, Outcome};
///
/// fn was_replayed<B>(response: &http::Response<B>) -> bool {
///     response.extensions().get() == Some(&Outcome::Replayed)
/// }
///
/// let app = Router::new()
///     .route("/payments", post(|| async {}))
///     .layer(IdempotencyLayer::new(MemoryBackend::new()))
///     .layer(tower::util::MapResponseLayer::new(|response: axum::response::Response| {
///         if was_replayed(&response) {
///             println!("a duplicate was answered"); // or a counter of your metrics
///         }
///         response
///     }));
/// # let key = [("idempotency-key", "k-1")];
/// # assert_eq!(send(&app, &key, "").await, Some(Outcome::Executed));
/// # assert_eq!(send(&app, &key, "").await, Some(Outcome::Replayed));
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler ran, and its key is completed.
    Executed,
    /// The handler ran, and its key was released: the next request with it runs.
    Released,
    /// The handler ran, but the layer does not know that its response is recorded. It is marked `idempotency-stored:
    /// false`.
    NotStored,
    /// The handler did not run: this is the first response. Or it ran and lost its lease, and this is the response of
    /// the run that took its key.
    Replayed,
    /// The handler did not run: another run of the request is in progress, or its response was not kept, or its outcome
    /// is unknown. Or it ran and lost its lease, so its own response is withheld. 409; the [`Rejection`] says which.
    Conflict,
    /// The handler did not run: the key belongs to a different request or to other credentials. 422.
    Mismatch,
    /// The handler did not run, for another reason: see the [`Rejection`].
    Rejected,
}

impl Outcome {
    pub(crate) fn of(rejection: Rejection) -> Self {
        match rejection {
            Rejection::InProgress | Rejection::NotKept | Rejection::OutcomeUnknown => Self::Conflict,
            Rejection::Mismatch | Rejection::CredentialsDiffer => Self::Mismatch,
            _ => Self::Rejected,
        }
    }
}
