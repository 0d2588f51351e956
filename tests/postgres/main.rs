//! `PostgresBackend` over real servers, which these tests start by themselves.

#[path = "../behaviour/mod.rs"]
#[macro_use]
mod behaviour;
#[path = "../servers/mod.rs"]
#[macro_use]
mod servers;

#[cfg(feature = "memory")]
mod cached;
mod clean_up;
mod commit;
mod crashes;
mod deadlocks;
#[path = "../formats/fixtures.rs"]
mod fixtures;
mod formats;
mod laws;
mod lost_replies;
mod poolers;
mod pools;
mod processes;
mod refusals;
mod support;
mod wakes;
mod wire;

/// The whole behaviour over HTTP, as over memory.
mod http {
    suite!(tower_idempotency::BoxBackend::new(crate::support::fresh_backend().await));
}
