//! [`RedisBackend`]: claims and records in Redis.

mod command;
mod connect;
mod connection;
mod failure;
mod script;
mod value;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

pub use self::connection::RedisConnection;
use crate::times::assert_possible;

/// A [`Backend`] in Redis, Valkey or Redis Cluster: one run per key over any number of processes.
#[derive(Clone)]
pub struct RedisBackend<C = RedisConnection> {
    /// For claims and for reading.
    claims: C,
    /// For renew, complete and release, which must not queue behind claims.
    owner: C,
    prefix: Arc<str>,
    timeout: Duration,
    /// Whether the server refused `SET` with NX and GET, as those before Redis 7 do.
    lacks_nx_get: Arc<AtomicBool>,
}

impl<C> RedisBackend<C> {
    /// A backend over two connections.
    #[must_use]
    pub fn new(claims: C, owner: C) -> Self {
        Self {
            claims,
            owner,
            prefix: "idempotency:".into(),
            timeout: Duration::from_secs(1),
            lacks_nx_get: Arc::default(),
        }
    }

    /// What the names of all keys begin with: by default `idempotency:`.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a command may take, its way there and back included: by default one second.
    ///
    /// # Panics
    ///
    /// When it is shorter than a millisecond or longer than 100 years.
    #[must_use]
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        assert_possible("a time-out", timeout, Duration::from_millis(1));
        self.timeout = timeout;
        self
    }
}

impl<C> fmt::Debug for RedisBackend<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Connections may show passwords.
        f.debug_struct("RedisBackend")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
