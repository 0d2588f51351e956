//! `PostgresBackend` over real servers, which these tests start by themselves.

#[path = "../behaviour/mod.rs"]
#[macro_use]
mod behaviour;
mod clean_up;
mod crashes;
#[path = "../formats/fixtures.rs"]
mod fixtures;
mod formats;
mod laws;
mod lost_replies;
mod pools;
mod refusals;
#[path = "../servers/mod.rs"]
mod servers;
mod support;
mod wakes;
mod wire;

/// The whole behaviour over HTTP, as over memory.
mod http {
    suite!(tower_idempotency::BoxBackend::new(crate::support::fresh_backend().await));
}
