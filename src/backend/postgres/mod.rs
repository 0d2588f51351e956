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
/// For PostgreSQL 9.5 and later, over the [`PgPool`] that the application has.
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
/// A first request costs two statements, a replay or a conflict one, a renewal one. A duplicate writes nothing. Time is
/// that of the server: one whose clock jumps forward ends leases early, and a duplicate may run beside a first. Rows do not leave by themselves: let [`clean_up`](Self::clean_up) delete those that have expired,
/// or call [`delete_expired`](Self::delete_expired).
///
/// PostgreSQL must keep what it is told: after a failover to a replica that had not received the last writes, or after a
/// crash with `synchronous_commit = off`, it has forgotten some of them, *and with them the promise not to run a request
/// again*.
///
/// # Connections
///
/// Claims and reads use the pool that is given. The commands of those who hold a claim have connections of their own, half
/// as many and at least two, opened as they are needed: they must not queue behind a crowd of duplicates, or behind handlers
/// that hold the pool's connections while they run. They are made as the pool makes its own, also after
/// [`set_connect_options`](PgPool::set_connect_options), as where passwords change. One further connection, for `LISTEN`, is opened when a request first
/// [waits](crate::IdempotencyLayer::wait).
///
/// A claim that finds no free connection within the [time-out](Self::timeout) has failed, and its request is refused with
/// 503. Where handlers hold connections for long, give the backend a pool of its own.
///
/// Before a pool hands a connection out it asks the server whether it still lives, unless
/// [`test_before_acquire`](sqlx::postgres::PgPoolOptions::test_before_acquire) is off. That makes commands up to a third
/// faster, and a connection that broke while it was idle then costs one more sending.
///
/// A pooler that shares connections by transaction must support prepared statements, as `PgBouncer` does from 1.21 on.
/// Behind a pooler waiting duplicates poll: a subscription on a connection that is shared would disturb its other users.
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
    /// A backend over `pool`, which may be shared with the application. Connects to nothing yet.
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

    /// The table of claims and records, with a schema or without: by default `idempotency`.
    ///
    /// The name stands for itself: upper case stays upper case. Backends with different tables share nothing. Those of
    /// one service must have the same.
    ///
    /// # Panics
    ///
    /// When `name` or its schema has other characters than ASCII letters, digits and `_`, begins with a digit, is empty,
    /// or is longer than 63 bytes (52 for the table).
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

    /// How long a command may take, from the wait for a connection to its answer: by default one second.
    ///
    /// It is for those who call this backend themselves, and for waiting. A layer sends a command again after half of its
    /// [`backend_timeout`](crate::IdempotencyLayer::backend_timeout), so that a lost reply is not a lost request.
    ///
    /// # Panics
    ///
    /// When it is shorter than a millisecond or longer than 100 years.
    #[must_use]
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = times::backend_timeout(timeout);
        self
    }

    /// Deletes what has expired, every minute and 1,000 rows at a time, for as long as a clone of this backend exists.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn clean_up(self) -> Self {
        self.clean_up_by(1000, Duration::from_secs(60))
    }

    /// Deletes what has expired, every `interval` and `batch` rows at a time, until nothing that has expired is left.
    ///
    /// Each batch is a transaction of its own. Claims and records that have not expired are never deleted, nor are rows
    /// waited for that somebody else is changing. Processes do not all do it at the same moment, and do not hinder each
    /// other if they do.
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
    /// Any [`BackendError`]. The rows may have been deleted all the same.
    pub async fn delete_expired(&self, batch: u32) -> Result<u64, BackendError> {
        clean_up::delete_expired(&self.claims, &self.statements, batch).await
    }

    /// Creates the table, unless it exists. Its schema must exist.
    ///
    /// Processes may do so at the same time. The user needs the right to create tables, also where nothing is to be done;
    /// where services do not have it, run [`migration`](Self::migration) by other means.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::BackendErrorKind::Unavailable) when the server refuses, or cannot be reached.
    pub async fn migrate(&self) -> Result<(), BackendError> {
        raw_sql(&self.statements.migrate).execute(&self.claims).await.map(drop).map_err(backend_error)
    }

    /// What [`migrate`](Self::migrate) sends, for those who keep their migrations in files.
    #[must_use]
    pub fn migration(&self) -> &str {
        &self.statements.migrate
    }

    /// Whether PostgreSQL answers, to claims and to those who hold one, within the time-out: for health checks.
    ///
    /// # Errors
    ///
    /// Why it does not.
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
