//! Real servers, and backends over them.

mod bouncer;
mod messages;
mod proxy;
mod server;
pub(crate) mod store;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_idempotency::{PostgresBackend, sqlx::PgPool};

pub(crate) use self::{
    bouncer::Bouncer,
    proxy::{Fate, Proxy},
    server::{Server, address_at},
};
pub(crate) use crate::servers::{Application, LONG, Terms};

/// The server of those tests that leave it as they found it. It ends with the test process.
pub(crate) static SHARED: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));

/// A backend that nobody shares, over the shared server.
pub(crate) async fn fresh_backend() -> PostgresBackend {
    backend_at(SHARED.pool(10), &fresh_name()).await
}

/// A backend over `pool`. Those with one `table` share what is stored.
pub(crate) async fn backend_at(pool: PgPool, table: &str) -> PostgresBackend {
    let backend = PostgresBackend::new(pool).table(table);
    backend.migrate().await.expect("the server is up");
    backend
}

/// A backend for checks in which no command may fail, however busy the machine is.
pub(crate) fn patient(backend: PostgresBackend) -> PostgresBackend {
    backend.timeout(Duration::from_secs(20))
}

/// A name that no other test uses: that of a table.
pub(crate) fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
