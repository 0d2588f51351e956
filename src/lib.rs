//! Makes any axum, hyper or tonic service safe to retry: the first request with an idempotency key runs, every
//! duplicate gets the first response back, and concurrent duplicates never run twice.
//!
//! # What it promises
//!
//! While the backend keeps its data, and within the retention:
//!
//! 1. At most one handler runs per unexpired lease, over any number of nodes; at most one response is ever recorded per
//!    key; it is never overwritten.
//! 2. A duplicate after completion gets the first recorded response: status, headers, body, trailers. The handler is
//!    not called. Not kept are hop-by-hop headers, `date`, `www-authenticate`, `authentication-info`, `proxy-*` and
//!    `set-cookie`.
//! 3. The same key with a different request (method, authority, path, query, body, `Authorization`; see
//!    [`FingerprintPolicy`] and [`scope`](IdempotencyLayer::scope)) gets 422. It is neither run nor answered with the
//!    first response, also while the first still runs.
//! 4. A client that hangs up neither stops nor loses the run.
//! 5. The record is durable before the client can see the end of the response. Where it could not be stored, the
//!    response says `idempotency-stored: false`.
//! 6. A crashed node blocks a key no longer than the lease (30 seconds), whatever the retention (24 hours).
//! 7. A holder that lost its lease can never overwrite, extend or delete its successor's claim.
//!
//! # What it does not promise
//!
//! Exactly-once. A handler that is killed, or stalls past its lease, may have had effects, and the next attempt runs
//! again; so does an attempt after a 5xx or a panic, unless the handler has said [`Run::keep`]. To make the *effect* unique, put the key, which the layer hands
//! over as [`Run::key`], under a UNIQUE constraint in the handler's own transaction. A backend that forgets (eviction, a
//! failover that loses writes, a flush) forgets the promise too.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use axum::{Router, http::StatusCode, routing::post};
//! use tower_idempotency::{IdempotencyLayer, MemoryBackend};
//!
//! async fn pay() -> StatusCode {
//!     // Runs once per X-Idempotency-Key, however often and however concurrently the request is sent.
//!     StatusCode::CREATED
//! }
//!
//! let app: Router = Router::new()
//!     .route("/payments", post(pay))
//!     .layer(IdempotencyLayer::new(MemoryBackend::new()));
//! # }
//! ```
//!
//! # The way of a request
//!
//! Applies? -> key -> fingerprint -> claim -> run -> record -> respond. The claim has other exits: replay, conflict,
//! mismatch. A request without a key, or one that is not [covered](IdempotencyLayer::cover) (by default any method but
//! POST and PATCH), is passed on without an allocation, a lock or a backend call.
//!
//! | the request | its answer |
//! |---|---|
//! | is the first with its key | the handler's |
//! | repeats a completed one | the first response, with `idempotent-replayed: true` |
//! | repeats one that is running | 409, `Retry-After: 1`, or, with [`wait`](IdempotencyLayer::wait), the first response when it is there |
//! | repeats one whose response was too large to keep, or an event stream | 409 |
//! | uses the key of another request | 422 |
//! | has an invalid key, or two | 400 |
//! | has no principal, where a [`scope`](IdempotencyLayer::scope) is set | 401 |
//! | has a body above the limit (2 MiB), or one that takes longer than 30 seconds | 413, 408 |
//! | comes while the backend does not answer | 503, `Retry-After: 1` |
//!
//! The layer's own answers are problem documents (RFC 9457); their response extensions hold a [`Rejection`]. Those of
//! every guarded response hold an [`Outcome`].
//!
//! To gRPC requests these answers are responses of trailers only. See [`Rejection`] for their status codes.
//!
//! A response is recorded unless it is a 5xx, 408, 425, 429 or 401, or, for gRPC, ends with a status that says that the
//! server failed or was not ready: then the key is released and the next attempt runs. So it is when a response's body
//! fails midway.
//!
//! A [`RecordPolicy`] or the handler can say otherwise: [`Run::keep`], [`Run::keep_without_body`], [`Run::release`].
//!
//! A response of unknown length is recorded while it is sent: its frames go out as the handler makes them, and only the
//! end waits until the record is durable. When the backend does not answer then, the trailers say
//! `idempotency-stored: false`; when the run has lost its key by then, the body ends with an error.
//!
//! # Where to put the layer
//!
//! Outside: authentication, CORS, tracing, compression, catching panics. Inside: whatever belongs to the handler, such
//! as a time-out, which then counts as a failed run. A time-out *outside* only ends the wait of its client: the run goes
//! on and is recorded.
//!
//! A guarded request is read whole before it runs, so the inner service gets its body as a [`RequestBody`]; axum, hyper
//! and tonic services take any body. In axum, a layer inside `Router::nest` sees the path without the nest's prefix:
//! turn on the feature `axum`, which makes the fingerprint use the whole one.
//!
//! # Cancel safety
//!
//! Dropping the response future before a claim was sent, or while it [waits](IdempotencyLayer::wait), stops the request.
//! Otherwise it moves the run to the tokio runtime, which finishes and records it, or [cancels](OnDisconnect) it.
//! [`Runs::drain`] waits for such runs at shutdown. The layer needs a tokio runtime with its timer enabled.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `memory` | yes | [`MemoryBackend`] |
//! | `axum` | no | the fingerprint uses axum's `OriginalUri`; handlers take a [`Run`] or an `Option<Run>` as an argument |
//! | `json` | no | keys and fingerprints from JSON bodies: [`KeySource`], [`FingerprintPolicy`] |
//! | `redis` | no | [`RedisBackend`], and the client it works with as [`redis`] |
//! | `tracing` | no | warnings through the `tracing` crate |
//! | `test-util` | no | [`testing`]: the conformance suite for backends, fault injection, a controllable inner service |

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
#[cfg(feature = "json")]
mod json;
mod key;
mod key_source;
mod layer;
mod names;
mod outcome;
mod pipe;
mod policy;
// Public for the tests alone, which walk the model and this code side by side.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod protocol;
#[cfg(not(feature = "test-util"))]
#[allow(unreachable_pub)]
mod protocol;
mod reading;
mod record;
mod rejection;
mod run;
mod runs;
mod service;
#[cfg(feature = "test-util")]
pub mod testing;
mod times;
mod token;
mod unprotected;
mod waiting;

/// The client that [`RedisBackend`] works with: turn on its features (TLS, cluster, sentinel) in your own `Cargo.toml`.
#[cfg(feature = "redis")]
pub use redis;

#[cfg(feature = "memory")]
pub use self::backend::MemoryBackend;
#[cfg(feature = "redis")]
pub use self::backend::{RedisBackend, RedisConnection};
#[cfg(feature = "axum")]
pub use self::extract::MissingRun;
pub use self::{
    backend::{Backend, BoxBackend, Claim, Entry, Ownership},
    body::{RequestBody, ResponseBody},
    body_hash::BodyHash,
    codec::DecodeError,
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

/// The README's code compiles.
#[cfg(all(doctest, feature = "memory", feature = "test-util"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does that of the page for operators.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../docs/redis.md")]
struct RedisPage;
