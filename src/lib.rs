#![doc = "WIP"]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod codec;
mod error;
mod fingerprint;
mod key;
mod names;
mod record;
mod token;

#[cfg(feature = "memory")]
pub use self::backend::MemoryBackend;
pub use self::{
    backend::{Backend, BoxBackend, Claim, Entry, Ownership},
    codec::DecodeError,
    error::{BackendError, BackendErrorKind},
    fingerprint::Fingerprint,
    key::Key,
    record::Record,
    token::Token,
};
