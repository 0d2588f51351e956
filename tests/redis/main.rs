//! `RedisBackend` over real servers, which these tests start by themselves.

#[path = "../behaviour/mod.rs"]
#[macro_use]
mod behaviour;
#[path = "../servers/mod.rs"]
#[macro_use]
mod servers;

mod acl;
mod connections;
mod crashes;
mod eviction;
#[path = "../formats/fixtures.rs"]
mod fixtures;
mod foreign;
mod forgetting;
mod formats;
mod late_commands;
mod laws;
mod many_servers;
mod outage;
mod processes;
mod redis6;
mod rolling;
mod scripts;
mod starvation;
#[path = "../stores/mod.rs"]
mod stores;
mod support;
mod tls;
mod wakes;
mod wire;

/// The whole behaviour over HTTP, as over memory.
mod http {
    suite!(tower_idempotency::BoxBackend::new(crate::support::fresh_backend().await));
}
