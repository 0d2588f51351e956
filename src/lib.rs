#![doc = "WIP"]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod codec;
mod error;
mod fingerprint;
mod key;
mod names;
mod record;
#[cfg(feature = "test-util")]
pub mod testing;
mod token;

pub use self::{
    backend::{Backend, BoxBackend, Claim, Entry, Ownership},
    codec::DecodeError,
    error::{BackendError, BackendErrorKind},
    fingerprint::Fingerprint,
    key::Key,
    record::Record,
    token::Token,
};
