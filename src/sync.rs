//! What threads of this crate share by: from the standard library and tokio, or from loom's model of them.
//!
//! Under loom a [`Notify`] and a [`watch`] are models of tokio's, after its documentation: what tokio itself does is not
//! under test here, and loom could not see it.

#[cfg(idempotency_loom)]
mod model;

#[cfg(idempotency_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};
#[cfg(not(idempotency_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

#[cfg(not(idempotency_loom))]
pub(crate) use tokio::sync::{Notify, watch};

#[cfg(idempotency_loom)]
pub(crate) use self::model::{Notify, watch};
