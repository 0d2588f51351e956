//! Effects and record, both or neither.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use sqlx::{Error, Postgres, Row, Transaction, query};
use tokio::time::timeout;

use super::{
    PostgresBackend,
    command::{LARGEST, interval, lock},
    commit_error::CommitError,
    connection::ask,
    failure::is_settled,
};
use crate::{
    BackendError, Record, ResponseBody, Run,
    error::BoxError,
    protocol::{LiveRun, Word, persist},
};

/// For how long it is asked what came of a COMMIT that was not answered: a server that was restarted is back by then.
const INQUIRY: Duration = Duration::from_secs(30);

impl PostgresBackend {
    /// Commits `transaction` together with the record of `response`: either the handler's writes and the response for
    /// duplicates both become durable, or neither does, even if a process, a connection or the server dies.
    ///
    /// This makes the *effect* unique, not only the run rare: of any number of runs with one key at most one commits,
    /// as long as its record lives. It must be the last step of a handler, which returns its result:
    ///
    /// ```
    /// # #[cfg(feature = "axum")] mod handler {
    /// use axum::{extract::State, http::StatusCode, response::IntoResponse};
    /// use tower_idempotency::{CommitError, PostgresBackend, Run, sqlx::{self, PgPool}};
    ///
    /// async fn pay(
    ///     State((pool, backend)): State<(PgPool, PostgresBackend)>,
    ///     run: Run,
    ///     amount: String,
    /// ) -> Result<impl IntoResponse, StatusCode> {
    ///     let paid = async {
    ///         let mut transaction = pool.begin().await?;
    ///         sqlx::query("INSERT INTO ledger (amount) VALUES ($1)").bind(amount).execute(&mut *transaction).await?;
    ///         backend.commit(transaction, &run, (StatusCode::CREATED, "paid").into_response()).await
    ///     };
    ///     paid.await.map_err(|_: CommitError| StatusCode::SERVICE_UNAVAILABLE)
    /// }
    /// # }
    /// ```
    ///
    /// The transaction must come from a pool, and belong to the database that contains the table of this backend. If it
    /// sets its own `search_path` or role, for example per tenant, name the [table](Self::table) with its schema, and
    /// let the role write into it. While it is open it holds a connection, so a handler should begin it late, and the
    /// pool should have a connection for each handler that writes at the same time. Claims take connections from the pool
    /// that this backend was given: let handlers and claims share it only if it is large enough. If a server stops
    /// responding in the middle of a COMMIT, sqlx keeps that connection, and its place in the pool, until TCP gives up.
    ///
    /// Under `REPEATABLE READ` and `SERIALIZABLE` a renewal of the lease that comes between the transaction's first
    /// statement and its commit is a [`Conflict`](CommitError::Conflict). Renewals come every third of the
    /// [lease](crate::IdempotencyLayer::lease), so that a transaction which takes longer than that never commits.
    ///
    /// # What is recorded
    ///
    /// The same as the layer would record: headers according to its [`RecordPolicy`](crate::RecordPolicy), for its
    /// retention, but whatever the status. A body above the layer's [limit](crate::IdempotencyLayer::limits) or of
    /// unknown length is not kept: duplicates get 409, [`NotKept`](crate::Rejection::NotKept). Layers between the
    /// handler and the idempotency layer see the response later, so their changes are not part of the record.
    ///
    /// The record is written unchanged, bypassing backends that wrap this one to encrypt records.
    ///
    /// Once this has returned `Ok`, the run has ended: neither a panic nor further calls on the run change anything.
    ///
    /// # Errors
    ///
    /// [`CommitError`]. Except for [`Unknown`](CommitError::Unknown), the transaction has been rolled back.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped before its end, the transaction may or may not have been committed with its record.
    /// The key is handled correctly in both cases.
    pub async fn commit<B>(
        &self,
        transaction: Transaction<'static, Postgres>,
        run: &Run,
        response: Response<B>,
    ) -> Result<Response<ResponseBody<B>>, CommitError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let Some((record, response)) = run.record(response).await else {
            return Err(CommitError::RolledBack("the response's body failed, or ended too early".into()));
        };
        self.commit_record(transaction, run, record).await.map(|()| response)
    }

    /// Commits `transaction` together with `value`: the counterpart of [`commit`](Self::commit) for handlers of
    /// messages.
    ///
    /// ```
    /// use tower_idempotency::{CommitError, Deduplicator, PostgresBackend, RunError, sqlx::{self, PgPool}};
    ///
    /// async fn consume(
    ///     pool: PgPool,
    ///     backend: PostgresBackend,
    ///     deduplicator: &Deduplicator<PostgresBackend>,
    ///     message: &str,
    /// ) -> Result<(), RunError<CommitError>> {
    ///     let handled = deduplicator.run_with(message, |run| async move {
    ///         let mut transaction = pool.begin().await?;
    ///         sqlx::query("UPDATE stock SET count = count - 1").execute(&mut *transaction).await?;
    ///         backend.commit_value(transaction, &run, "shipped").await
    ///     });
    ///     handled.await.map(drop)
    /// }
    /// ```
    ///
    /// Returns `value` for the handler to return. After [`Run::keep_without_body`] it is not recorded. Duplicates of a
    /// request whose run has committed a value get 409, [`NotKept`](crate::Rejection::NotKept).
    ///
    /// # Errors
    ///
    /// See [`commit`](Self::commit).
    pub async fn commit_value<V: AsRef<[u8]>>(
        &self,
        transaction: Transaction<'static, Postgres>,
        run: &Run,
        value: V,
    ) -> Result<V, CommitError> {
        let fingerprint = run.live().fingerprint();
        let record = match run.live().word() {
            Some(Word::KeepWithoutBody) => Record::tombstone(&fingerprint),
            _ => Record::value(&fingerprint, value.as_ref()),
        };
        self.commit_record(transaction, run, record).await.map(|()| value)
    }

    async fn commit_record(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        run: &Run,
        mut record: Record,
    ) -> Result<(), CommitError> {
        if record.size() > LARGEST {
            record = Record::tombstone(&record.fingerprint());
        }
        // Rolled back when it is dropped.
        self.write(&mut transaction, run, &record).await?;
        let doubt = Doubt(Some(run.live()));
        let committed = match in_time(self.timeout, transaction.commit()).await {
            Err(error) if is_settled(&error) || !self.has_committed(run).await.map_err(CommitError::Unknown)? => {
                Err(error)
            }
            _ => Ok(()),
        };
        doubt.end();
        committed?;
        run.live().commit(record);
        Ok(())
    }

    /// Writes the record over the claim, whose row is locked from then on: nobody can take the key over, release it or
    /// give it up before the transaction has ended.
    async fn write(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        run: &Run,
        record: &Record,
    ) -> Result<(), CommitError> {
        let (key, bytes) = (run.live().key, record.to_bytes());
        let write = query(&self.statements.commit).bind(key.as_bytes().as_slice()).bind(lock(&key));
        let write =
            write.bind(run.token().as_bytes().to_vec()).bind(&*bytes).bind(interval(run.recorder().retention()));
        match in_time(self.timeout, write.fetch_optional(&mut **transaction)).await? {
            Some(_) => Ok(()),
            None => Err(CommitError::LeaseLost),
        }
    }

    /// Whether the transaction that has written the record of `run` was committed. As long as it has not ended it holds
    /// the lock of the row, wherever its COMMIT has got stuck, so that whoever gets that lock knows. Unless the row has
    /// gone, or to another run: a claim that was left may have expired since, and so may a record.
    async fn has_committed(&self, run: &Run) -> Result<bool, BackendError> {
        let (key, token) = (run.live().key, run.token());
        let verify =
            || query(&self.statements.verify).bind(key.as_bytes().as_slice()).bind(token.as_bytes().as_slice());
        let row = persist(INQUIRY, self.timeout, || ask(self.owner.pool(), self.timeout, verify)).await?;
        let committed = row.map_or(Ok(None), |row| row.try_get("committed")).map_err(BackendError::corrupt)?;
        committed.ok_or_else(|| BackendError::unavailable("what the transaction left of the key has gone since"))
    }
}

/// Until it is over nobody knows whether a run has committed, which the run is told when this is dropped before.
struct Doubt<'a>(Option<&'a LiveRun>);

impl Doubt<'_> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.0 {
            run.doubt();
        }
    }
}

async fn in_time<T>(limit: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limit, answer)
        .await
        .unwrap_or_else(|_elapsed| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}
