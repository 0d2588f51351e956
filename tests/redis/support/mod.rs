//! Real servers, a proxy in front of them, and processes that serve over them.

mod application;
mod cluster;
mod nodes;
mod proxy;
mod resp;
mod sentinel;
mod server;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tower_idempotency::RedisBackend;

pub(crate) use self::{
    application::{Application, LONG},
    cluster::Cluster,
    nodes::{Node, Terms, order, runs_of, serve_as_node},
    proxy::{Fate, Gate, Proxy},
    resp::Command,
    sentinel::{MASTER, Sentinel},
    server::Server,
};

/// The server of those tests that leave it as they found it. It ends with the test process.
pub(crate) static SHARED: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));

/// A backend that nobody shares, over the shared server.
pub(crate) async fn fresh_backend() -> RedisBackend {
    backend_at(&SHARED.url(), &fresh_prefix()).await
}

/// A backend over the server at `url`. Those with one `prefix` share what is stored.
pub(crate) async fn backend_at(url: &str, prefix: &str) -> RedisBackend {
    RedisBackend::connect(url).await.expect("the server is up").prefix(prefix)
}

/// A prefix that no other test uses.
pub(crate) fn fresh_prefix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}:", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Blocks until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
