//! A backend on `rusqlite`: one table in a file that several processes may share.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior::Immediate, types::Type};
use tokio::{sync::Mutex, task::spawn_blocking};
use tower_idempotency::{
    Backend, BackendError, BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, Token,
};

type Answer<T> = Result<T, BackendError>;

const TABLE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS idempotency (key BLOB PRIMARY KEY, token BLOB NOT NULL, fingerprint BLOB NOT NULL,
        record BLOB, deadline REAL NOT NULL); -- no record: in progress; deadline: seconds since 1970";
const STORE: &str = "REPLACE INTO idempotency SELECT ?1, ?2, ?3, ?4, unixepoch('subsec') + ?5
    WHERE NOT EXISTS (SELECT * FROM idempotency WHERE key = ?1 AND deadline > unixepoch('subsec')
        AND NOT (token = ?2 AND record IS NULL AND ?4 IS NOT NULL))";
const READ: &str = "SELECT token, fingerprint, record FROM idempotency WHERE key = ?1";

pub(crate) struct SqliteBackend {
    connection: Arc<Mutex<Connection>>,
    crowd: Mutex<()>,
}

impl SqliteBackend {
    pub(crate) fn open(path: impl AsRef<Path>) -> Answer<Self> {
        let connection = Connection::open(path).map_err(backend_error)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(backend_error)?;
        connection.execute_batch(TABLE).map_err(backend_error)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), crowd: Mutex::default() })
    }

    async fn run<T, F>(&self, command: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        let answer = spawn_blocking(move || command(&mut connection)).await;
        answer.map_err(BackendError::unavailable)?.map_err(backend_error)
    }

    async fn store(&self, key: &Key, token: Token, record: Stored, life: Duration) -> Answer<(Token, Entry)> {
        let (key, (fingerprint, record)) = (*key.as_bytes(), record);
        self.run(move |connection| {
            let step = connection.transaction_with_behavior(Immediate)?;
            step.execute(STORE, (key, *token.as_bytes(), fingerprint.to_bytes(), record, life.as_secs_f64()))?;
            let stored = step.query_row(READ, [key], value)?;
            step.commit().map(|()| stored)
        })
        .await
    }
}
type Stored = (Fingerprint, Option<Vec<u8>>);

impl Backend for SqliteBackend {
    async fn claim(&self, key: &Key, token: Token, fingerprint: &Fingerprint, lease: Duration) -> Answer<Claim> {
        let _turn = self.crowd.lock().await;
        Ok(match self.store(key, token, (*fingerprint, None), lease).await? {
            (holder, Entry::InProgress { .. }) if holder == token => Claim::Acquired,
            (_, Entry::InProgress { fingerprint }) => Claim::InProgress { fingerprint },
            (_, Entry::Completed(record)) => Claim::Completed(record),
        })
    }

    async fn complete(&self, key: &Key, token: Token, record: &Record, retention: Duration) -> Answer<Ownership> {
        let stored = (record.fingerprint(), Some(record.to_bytes().into()));
        let (holder, _) = self.store(key, token, stored, retention).await?;
        Ok(if holder == token { Ownership::Held } else { Ownership::Lost })
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Answer<Ownership> {
        const RENEW: &str = "UPDATE idempotency SET deadline = unixepoch('subsec') + ?3
            WHERE key = ?1 AND token = ?2 AND record IS NULL AND deadline > unixepoch('subsec')";
        let claim = (*key.as_bytes(), *token.as_bytes(), lease.as_secs_f64());
        let renewed = self.run(move |connection| connection.execute(RENEW, claim)).await?;
        Ok(if renewed == 1 { Ownership::Held } else { Ownership::Lost })
    }

    async fn release(&self, key: &Key, token: Token) -> Answer<()> {
        const RELEASE: &str = "DELETE FROM idempotency WHERE key = ?1 AND token = ?2 AND record IS NULL";
        let claim = (*key.as_bytes(), *token.as_bytes());
        self.run(move |connection| connection.execute(RELEASE, claim)).await.map(drop)
    }

    async fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        let (sql, key) = (format!("{READ} AND deadline > unixepoch('subsec')"), *key.as_bytes());
        let _turn = self.crowd.lock().await;
        let stored = self.run(move |connection| connection.query_row(&sql, [key], value).optional()).await?;
        Ok(stored.map(|(_, entry)| entry))
    }

    async fn remove(&self, key: &Key) -> Answer<bool> {
        const REMOVE: &str = "DELETE FROM idempotency WHERE key = ?1 AND deadline > unixepoch('subsec')";
        let key = *key.as_bytes();
        Ok(self.run(move |connection| connection.execute(REMOVE, [key])).await? == 1)
    }
}

fn value(row: &Row<'_>) -> rusqlite::Result<(Token, Entry)> {
    let (token, fingerprint) = (Token::from_bytes(row.get(0)?), Fingerprint::from_bytes(row.get(1)?));
    let Some(bytes) = row.get::<_, Option<Vec<u8>>>(2)? else { return Ok((token, Entry::InProgress { fingerprint })) };
    let unreadable = |error| rusqlite::Error::FromSqlConversionFailure(2, Type::Blob, Box::new(error));
    Ok((token, Entry::Completed(Record::from_bytes(bytes.into()).map_err(unreadable)?)))
}

fn backend_error(error: rusqlite::Error) -> BackendError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => BackendError::new(BackendErrorKind::TimedOut),
        Some(ErrorCode::TooBig) => BackendError::new(BackendErrorKind::TooLarge),
        Some(_) => BackendError::unavailable(error),
        None => BackendError::corrupt(error),
    }
}
