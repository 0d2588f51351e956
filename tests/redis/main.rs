//! `RedisBackend` over real servers, which these tests start by themselves.

#[path = "../behaviour/mod.rs"]
#[macro_use]
mod behaviour;
#[path = "../servers/mod.rs"]
#[macro_use]
mod servers;

mod acl;
#[cfg(feature = "memory")]
mod cached;
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
mod lost_replies;
mod many_servers;
mod outage;
mod processes;
mod redis6;
mod rolling;
mod scripts;
mod starvation;
mod support;
mod tls;
mod wakes;
mod wire;

/// The whole behaviour over HTTP, as over memory.
mod http {
    suite!(tower_idempotency::BoxBackend::new(crate::support::fresh_backend().await));
}
