//! [`Run`] as an argument of axum handlers.

use std::{convert::Infallible, error::Error, fmt};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::Run;

/// For handlers that only get guarded requests, as with [`require_key`](crate::IdempotencyLayer::require_key). If
/// requests may be bypassed, use `Option<Run>`.
impl<S: Sync> FromRequestParts<S> for Run {
    type Rejection = MissingRun;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingRun> {
        parts.extensions.get().cloned().ok_or(MissingRun(()))
    }
}

/// `None` for a request that was bypassed.
impl<S: Sync> OptionalFromRequestParts<S> for Run {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

/// A handler takes a [`Run`], and its request has none: 500.
///
/// The request was bypassed (it has no key, or its method is not covered), or the handler is not behind an
/// [`IdempotencyLayer`](crate::IdempotencyLayer). Both are mistakes in the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRun(());

impl fmt::Display for MissingRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "This handler takes a `Run`, but its request has none: it was bypassed, or there is no `IdempotencyLayer` \
             in front. Take an `Option<Run>`, or require a key.",
        )
    }
}

impl Error for MissingRun {}

impl IntoResponse for MissingRun {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
