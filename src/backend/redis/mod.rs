//! [`RedisBackend`]: claims and records in Redis.

mod board;
mod command;
mod connect;
mod connection;
mod failure;
mod link;
mod script;
mod subscriber;
mod unanswered;
mod value;
mod wait;

use std::{
    fmt,
    future::ready,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use redis::Client;

pub use self::connection::RedisConnection;
use self::{
    board::{Board, Source},
    link::Locate,
    unanswered::Unanswered,
};
use crate::times::assert_possible;

/// A [`Backend`] in Redis, Valkey or Redis Cluster: one run per key over any number of processes.
#[derive(Clone)]
pub struct RedisBackend<C = RedisConnection> {
    /// For claims and for reading.
    claims: C,
    /// For renew, complete and release, which must not queue behind claims.
    owner: C,
    prefix: Arc<str>,
    /// Those who wait here, for keys with this prefix.
    board: Arc<Board>,
    timeout: Duration,
    /// Whether the server refused `SET` with NX and GET, as those before Redis 7 do.
    lacks_nx_get: Arc<AtomicBool>,
    unanswered: Arc<Unanswered>,
}

impl<C> RedisBackend<C> {
    /// A backend over two connections.
    #[must_use]
    pub fn new(claims: C, owner: C) -> Self {
        Self {
            claims,
            owner,
            prefix: "idempotency:".into(),
            board: Arc::new(Board::new(None)),
            timeout: Duration::from_secs(1),
            lacks_nx_get: Arc::default(),
            unanswered: Arc::default(),
        }
    }

    /// What the names of all keys begin with: by default `idempotency:`.
    ///
    /// Backends with different prefixes share nothing. Those of one service must have the same.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        let locate = self.board.source().map(|source| Arc::clone(&source.locate));
        self.listen_by(locate)
    }

    /// Tells waiting duplicates of other processes at once when a key is no longer in progress, and lets those of this
    /// process be told, over one connection that `client` opens when somebody first waits.
    ///
    /// [`connect`](RedisBackend::connect) turns this on. Without it waiters poll, with growing pauses of 10 to 500
    /// milliseconds, and so they do while the subscription is down. In Redis Cluster any node will do.
    #[must_use]
    pub fn wake_by(self, client: Client) -> Self {
        self.listen_by(Some(Arc::new(move || Box::pin(ready(Ok(client.clone()))))))
    }

    fn listen_by(mut self, locate: Option<Locate>) -> Self {
        let channel = format!("{}done", self.prefix);
        self.board = Arc::new(Board::new(locate.map(|locate| Source { locate, channel })));
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
