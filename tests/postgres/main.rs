//! `PostgresBackend` over real servers, which these tests start by themselves.

#[path = "../behaviour/mod.rs"]
#[macro_use]
mod behaviour;
#[path = "../servers/mod.rs"]
#[macro_use]
mod servers;

mod clean_up;
mod commit;
mod crashes;
mod deadlocks;
#[path = "../formats/fixtures.rs"]
mod fixtures;
mod formats;
mod laws;
mod poolers;
mod pools;
mod processes;
mod refusals;
#[path = "../stores/mod.rs"]
mod stores;
mod support;
mod wakes;
mod wire;

/// The whole behaviour over HTTP, as over memory.
mod http {
    suite!(tower_idempotency::BoxBackend::new(crate::support::fresh_backend().await));
}
