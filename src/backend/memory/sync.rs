//! The lock, from the standard library or from loom's model of it.

#[cfg(idempotency_loom)]
pub(super) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(idempotency_loom))]
pub(super) use std::sync::{Mutex, MutexGuard};
