//! The behaviour suite over `MemoryBackend`.
#![cfg(feature = "memory")]

#[macro_use]
mod behaviour;

suite!(tower_idempotency::BoxBackend::new(tower_idempotency::MemoryBackend::new()));
