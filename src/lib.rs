#![doc = "WIP"]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod body;
mod codec;
mod error;
mod fingerprint;
mod flow;
mod future;
mod header_key;
mod key;
mod layer;
mod names;
mod policy;
// Public for the tests alone, which walk the model and this code side by side.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod protocol;
#[cfg(not(feature = "test-util"))]
#[allow(unreachable_pub)]
mod protocol;
mod record;
mod rejection;
mod run;
mod service;
mod token;

#[cfg(feature = "memory")]
pub use self::backend::MemoryBackend;
pub use self::{
    backend::{Backend, BoxBackend, Claim, Entry, Ownership},
    body::{RequestBody, ResponseBody},
    codec::DecodeError,
    error::{BackendError, BackendErrorKind},
    fingerprint::Fingerprint,
    future::ResponseFuture,
    key::Key,
    layer::IdempotencyLayer,
    record::Record,
    rejection::Rejection,
    run::Run,
    service::Idempotency,
    token::Token,
};
