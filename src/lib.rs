//! A tower layer that makes axum, hyper and tonic services safe to retry: the first request with an idempotency key
//! runs, and every duplicate gets its response, even if duplicates arrive at the same time or at different nodes.
// The text is in separate files; each begins with a blank line, which ends the paragraph before it.
#![doc = include_str!("docs/promises.md")]
#![doc = include_str!("docs/example.md")]
#![doc = include_str!("docs/guides.md")]
#![doc = include_str!("docs/request.md")]
#![doc = include_str!("docs/layers.md")]
#![doc = include_str!("docs/keys.md")]
#![doc = include_str!("docs/senders.md")]
#![doc = include_str!("docs/policies.md")]
#![doc = include_str!("docs/effects.md")]
#![doc = include_str!("docs/consumers.md")]
#![doc = include_str!("docs/cancel_safety.md")]
#![doc = include_str!("docs/backends.md")]
#![doc = include_str!("docs/observability.md")]
#![doc = include_str!("docs/features.md")]
#![doc = include_str!("docs/stability.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod answer;
mod backend;
mod body;
mod body_hash;
mod builder;
mod capture;
mod closure;
mod codec;
mod deduplicator;
mod disconnect;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod fingerprint;
mod fingerprint_policy;
mod flow;
mod future;
mod grpc;
mod header_key;
mod identity;
mod inlet;
#[cfg(feature = "json")]
mod json;
mod key;
mod key_source;
mod layer;
mod markers;
mod names;
mod observe;
mod outcome;
mod outlet;
mod panics;
mod pipe;
mod policy;
// Public for the tests alone, which walk the model and this code side by side.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod protocol;
#[cfg(not(feature = "test-util"))]
#[allow(unreachable_pub, reason = "it is public with the feature")]
#[cfg_attr(false, mutants::skip)] // for cargo-mutants, which would take each mutant twice
mod protocol;
mod reading;
mod record;
#[cfg(feature = "postgres")]
mod recorder;
mod rejection;
mod run;
mod runs;
mod service;
mod settings;
mod sync;
#[cfg(feature = "test-util")]
pub mod testing;
mod timely;
mod times;
mod token;
mod unprotected;
mod verdict;
mod waiting;
mod whole;

/// The client that [`RedisBackend`] uses: enable its features (TLS, cluster, sentinel) in your own `Cargo.toml`.
#[cfg(feature = "redis")]
pub use redis;

/// The client that [`PostgresBackend`] uses: enable its features (TLS) in your own `Cargo.toml`.
#[cfg(feature = "postgres")]
pub use sqlx;

#[cfg(feature = "memory")]
pub use self::backend::{CachedBackend, MemoryBackend};
#[cfg(feature = "postgres")]
pub use self::backend::{CommitError, PostgresBackend};
#[cfg(feature = "redis")]
pub use self::backend::{RedisBackend, RedisConnection};
#[cfg(feature = "axum")]
pub use self::extract::MissingRun;
pub use self::{
    backend::{Backend, BoxBackend, Claim, Entry, Ownership},
    body::{RequestBody, ResponseBody},
    body_hash::BodyHash,
    codec::DecodeError,
    deduplicator::{Deduplicator, Message, Processed, RunError, RunFuture},
    disconnect::OnDisconnect,
    error::{BackendError, BackendErrorKind},
    fingerprint::Fingerprint,
    fingerprint_policy::FingerprintPolicy,
    future::ResponseFuture,
    key::Key,
    key_source::KeySource,
    layer::IdempotencyLayer,
    outcome::Outcome,
    policy::RecordPolicy,
    record::Record,
    rejection::Rejection,
    run::Run,
    runs::Runs,
    service::Idempotency,
    token::Token,
    unprotected::BackendFailure,
};

/// Without its `MapRequestBodyLayer` an example in `docs/layers.md` would not compile:
///
/// ```compile_fail,E0277
/// use axum::{Router, extract::Request, middleware::{self, Next}, response::Response, routing::post};
/// use tower::ServiceBuilder;
/// use tower_idempotency::{IdempotencyLayer, MemoryBackend};
///
/// async fn count(request: Request, next: Next) -> Response {
///     next.run(request).await
/// }
///
/// let stack = ServiceBuilder::new()
///     .layer(IdempotencyLayer::new(MemoryBackend::new()))
///     .layer(middleware::from_fn(count));
/// let app: Router = Router::new().route("/payments", post(|| async {})).layer(stack);
/// ```
#[cfg(all(doctest, feature = "memory"))]
struct BodiesOfInnerLayers;

/// The README's code compiles.
#[cfg(all(doctest, feature = "memory", feature = "postgres", feature = "test-util"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does that of the page for operators.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../docs/redis.md")]
struct RedisPage;

/// And that of the guides. Those that are not here show a program piece by piece: a test compares them.
#[cfg(all(doctest, feature = "json", feature = "memory", feature = "postgres", feature = "redis"))]
#[cfg(all(feature = "axum", feature = "metrics", feature = "tracing"))]
#[doc = include_str!("../docs/guide/axum.md")]
#[doc = include_str!("../docs/guide/hyper.md")]
#[doc = include_str!("../docs/guide/tonic.md")]
#[doc = include_str!("../docs/guide/webhooks.md")]
#[doc = include_str!("../docs/guide/queue-consumers.md")]
#[doc = include_str!("../docs/guide/multi-tenant.md")]
#[doc = include_str!("../docs/guide/operating.md")]
#[doc = include_str!("../docs/guide/from-idempotent.md")]
#[doc = include_str!("../docs/guide/from-axum-idempotent.md")]
struct Guides;
