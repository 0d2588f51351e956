//! Real servers, and a proxy in front of them.

mod cluster;
mod proxy;
mod resp;
mod sentinel;
mod server;
pub(crate) mod store;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_idempotency::RedisBackend;

pub(crate) use self::{
    cluster::Cluster,
    proxy::{Fate, Gate, Proxy},
    resp::Command,
    sentinel::{MASTER, Sentinel},
    server::Server,
};

pub(crate) use crate::servers::{
    Application, LONG, Terms,
    nodes::{Node, runs_of},
    order, wait_until,
};

/// The server of those tests that leave it as they found it. It ends with the test process.
pub(crate) static SHARED: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));

/// A backend that nobody shares, over the shared server.
pub(crate) async fn fresh_backend() -> RedisBackend {
    backend_at(&SHARED.url(), &fresh_name()).await
}

/// A backend over the server at `url`. Those with one `prefix` share what is stored.
pub(crate) async fn backend_at(url: &str, prefix: &str) -> RedisBackend {
    RedisBackend::connect(url).await.expect("the server is up").prefix(prefix)
}

/// A backend for checks in which no command may fail, however busy the machine is.
pub(crate) fn patient(backend: RedisBackend) -> RedisBackend {
    backend.timeout(Duration::from_secs(20))
}

/// A name that no other test uses: a prefix.
pub(crate) fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}:", COUNT.fetch_add(1, Ordering::Relaxed))
}
