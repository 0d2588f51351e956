//! [`PostgresBackend`]: claims and records in PostgreSQL.

mod clean_up;
mod command;
mod commit;
mod commit_error;
mod connection;
mod failure;
mod owner;
mod statement;
mod subscriber;
mod table;
mod value;

use std::{fmt, sync::Arc, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
    raw_sql,
};

pub use self::commit_error::CommitError;
use self::{
    clean_up::Cleaner, connection::ping, failure::backend_error, owner::Owner, statement::Statements, table::Table,
};
use super::board::Board;
use crate::{BackendError, times};

/// A [`Backend`](crate::Backend) in PostgreSQL: one run per key, over any number of processes.
///
/// For PostgreSQL 9.5 and later, through the application's [`PgPool`].
///
/// ```no_run
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_idempotency::{IdempotencyLayer, PostgresBackend, sqlx::PgPool};
///
/// let pool = PgPool::connect("postgres://payments@127.0.0.1/payments").await?;
/// let backend = PostgresBackend::new(pool).clean_up();
/// backend.migrate().await?;
/// let layer = IdempotencyLayer::new(backend);
/// # Ok(())
/// # }
/// ```
///
/// A first request costs two statements, a replay or a conflict one, a renewal one. A duplicate writes nothing. The
/// server's clock applies: if it jumps forward, leases end early, and a duplicate may run beside a first request. Expired
/// rows are not deleted automatically: enable [`clean_up`](Self::clean_up), or call
/// [`delete_expired`](Self::delete_expired).
///
/// PostgreSQL must not lose data: after a failover to a replica that had not received the last writes, or after a crash
/// with `synchronous_commit = off`, some claims and records are lost, *and their requests can run again*.
///
/// # Connections
///
/// Claims and reads use the given pool. The commands of claim holders have separate connections, half as many and at
/// least two, opened as needed: they must not queue behind a crowd of duplicates, or behind handlers that hold the
/// pool's connections while they run. These are made as the pool makes its own, even after
/// [`set_connect_options`](PgPool::set_connect_options), for example to change a password. One further connection, for
/// `LISTEN`, is opened when a request first
/// [waits](crate::IdempotencyLayer::wait).
///
/// If a claim finds no free connection within the [timeout](Self::timeout), it fails, and its request is refused with
/// 503. If handlers hold connections for a long time, give the backend a separate pool.
///
/// Before a pool hands out a connection, it checks that the connection still works, unless
/// [`test_before_acquire`](sqlx::postgres::PgPoolOptions::test_before_acquire) is off. Without that check commands are
/// up to a third faster, but a connection that broke while idle costs one more attempt.
///
/// A pooler that shares connections by transaction must support prepared statements, as `PgBouncer` does from 1.21 on.
/// Behind a pooler, waiting duplicates poll: a subscription on a shared connection would disturb its other users.
///
/// # Errors
///
/// | kind | when |
/// |---|---|
/// | `TimedOut` | no connection or no answer within the time-out, or the server cancelled the statement |
/// | `Full` | a claim, and the server's disk is full |
/// | `TooLarge` | a record of more than 512 MiB |
/// | `Corrupt` | the record under the key was not written by this crate, or by a newer version; it is left as it is |
/// | `Unavailable` | everything else; the [`source`](std::error::Error::source) is a [`sqlx::Error`] |
#[derive(Clone)]
pub struct PostgresBackend {
    /// For claims and for reading.
    claims: PgPool,
    /// For renew, complete and release, which must not queue behind claims.
    owner: Owner,
    statements: Arc<Statements>,
    /// Those who wait here.
    board: Arc<Board>,
    timeout: Duration,
    cleaner: Option<Arc<Cleaner>>,
}

impl PostgresBackend {
    /// A backend over `pool`, which may be shared with the application. It does not connect yet.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            owner: Owner::beside(pool.clone()),
            claims: pool,
            statements: Arc::new(Statements::new(&Table::new("idempotency"))),
            board: Arc::default(),
            timeout: Duration::from_secs(1),
            cleaner: None,
        }
    }

    /// The table of claims and records, with or without a schema: by default `idempotency`.
    ///
    /// The name is quoted, so upper case is preserved. Backends with different tables share nothing. All nodes of a
    /// service must use the same.
    ///
    /// # Panics
    ///
    /// If `name` or its schema contains other characters than ASCII letters, digits and `_`, begins with a digit, is
    /// empty, or is longer than 63 bytes (52 for the table).
    #[must_use]
    #[track_caller]
    pub fn table(mut self, name: &str) -> Self {
        self.statements = Arc::new(Statements::new(&Table::new(name)));
        self.board = Arc::default();
        match self.cleaner.take() {
            Some(cleaner) => self.clean_up_by(cleaner.batch, cleaner.interval),
            None => self,
        }
    }

    /// How long a command may take, including the wait for a connection: by default one second.
    ///
    /// This matters if you call this backend yourself, and for waiting. A layer sends a command again after half of its
    /// [`backend_timeout`](crate::IdempotencyLayer::backend_timeout), so that a lost reply is not a lost request.
    ///
    /// # Panics
    ///
    /// If it is shorter than a millisecond or longer than 100 years.
    #[must_use]
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = times::backend_timeout(timeout);
        self
    }

    /// Deletes expired rows every minute, 1,000 rows at a time, as long as a clone of this backend exists.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn clean_up(self) -> Self {
        self.clean_up_by(1000, Duration::from_secs(60))
    }

    /// Deletes all expired rows every `interval`, `batch` rows at a time.
    ///
    /// Each batch is a separate transaction. Claims and records that have not expired are never deleted, and rows that
    /// somebody else is changing are skipped. Processes do this at different times, and do not hinder each other if
    /// they coincide.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, when `batch` is 0, or when `interval` is shorter than a millisecond or longer than 100
    /// years.
    #[must_use]
    #[track_caller]
    pub fn clean_up_by(mut self, batch: u32, interval: Duration) -> Self {
        assert!(batch > 0, "a batch of 0 rows deletes nothing");
        let interval = times::interval(interval);
        let cleaner = Cleaner::start(self.claims.clone(), Arc::clone(&self.statements), batch, interval);
        self.cleaner = Some(Arc::new(cleaner));
        self
    }

    /// Deletes up to `batch` rows that have expired, the oldest first, and returns how many there were: fewer than
    /// `batch` when no more are left.
    ///
    /// # Errors
    ///
    /// Any [`BackendError`]. The rows may have been deleted nevertheless.
    pub async fn delete_expired(&self, batch: u32) -> Result<u64, BackendError> {
        clean_up::delete_expired(&self.claims, &self.statements, batch).await
    }

    /// Creates the table, unless it exists. Its schema must exist.
    ///
    /// Several processes may call this at the same time. The user needs the right to create tables, even if the table
    /// exists; if your services do not have it, run [`migration`](Self::migration) by other means.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::BackendErrorKind::Unavailable) if the server refuses, or cannot be reached.
    pub async fn migrate(&self) -> Result<(), BackendError> {
        raw_sql(&self.statements.migrate).execute(&self.claims).await.map(drop).map_err(backend_error)
    }

    /// What [`migrate`](Self::migrate) sends, for those who keep their migrations in files.
    #[must_use]
    pub fn migration(&self) -> &str {
        &self.statements.migrate
    }

    /// Checks that PostgreSQL answers within the timeout, on the connections for claims and on those for holders: for
    /// health checks.
    ///
    /// # Errors
    ///
    /// The reason why it does not.
    pub async fn ping(&self) -> Result<(), BackendError> {
        ping(&self.claims, self.timeout).await?;
        ping(self.owner.pool(), self.timeout).await
    }
}

/// A pool of up to `connections` to `address`, opened as they are needed.
fn pool_of(options: PgPoolOptions, connections: u32, address: PgConnectOptions) -> PgPool {
    options.min_connections(0).max_connections(connections).connect_lazy_with(address)
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Pools may show passwords.
        f.debug_struct("PostgresBackend")
            .field("table", &self.statements.table)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
