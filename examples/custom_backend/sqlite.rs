//! A backend on `rusqlite`: one table in a file that several processes may share.
use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, TransactionBehavior::Immediate, types::Null};
use tokio::{sync::Mutex, task::spawn_blocking};
use tower_idempotency::{
    Backend, BackendError, BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, Token,
};

const TABLE: &str = "PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS idempotency (key BLOB
    PRIMARY KEY, token BLOB NOT NULL, fingerprint BLOB NOT NULL, record BLOB, deadline REAL NOT NULL); COMMIT";
const STORE: &str = "REPLACE INTO idempotency SELECT ?1, ?2, ?3, ?4, unixepoch('subsec') + ?5 WHERE NOT EXISTS (
    SELECT * FROM idempotency WHERE key = ?1 AND deadline > unixepoch('subsec')
    AND NOT (?4 IS NOT NULL AND token = ?2 AND record IS NULL))";
const READ: &str = "SELECT token, fingerprint, record FROM idempotency WHERE key = ?1";

type Answer<T> = Result<T, BackendError>;
type Stored = ([u8; Token::LEN], [u8; Fingerprint::LEN], Option<Vec<u8>>);

pub struct SqliteBackend {
    connection: Arc<Mutex<Connection>>,
    crowd: Mutex<()>,
}

impl SqliteBackend {
    pub fn open(path: impl AsRef<Path>) -> Answer<Self> {
        let connection = Connection::open(path).map_err(backend_error)?;
        connection.execute_batch(TABLE).map_err(backend_error)?;
        let _ = connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL"); // or another just did
        Ok(Self { connection: Arc::new(Mutex::new(connection)), crowd: Mutex::default() })
    }

    async fn run<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        let answer = spawn_blocking(move || command(&mut connection)).await;
        answer.map_err(BackendError::unavailable)?.map_err(backend_error)
    }

    async fn store(&self, key: Key, new: impl Params + Send + 'static) -> Answer<Stored> {
        let command = move |connection: &mut Connection| {
            let step = connection.transaction_with_behavior(Immediate)?;
            step.execute(STORE, new)?;
            let stored = step.query_row(READ, [key.as_bytes()], |row| row.try_into())?;
            step.commit().map(|()| stored)
        };
        self.run(command).await
    }
}

impl Backend for SqliteBackend {
    async fn claim(&self, key: &Key, token: Token, fingerprint: &Fingerprint, lease: Duration) -> Answer<Claim> {
        let _turn = self.crowd.lock().await;
        let new = (*key.as_bytes(), *token.as_bytes(), fingerprint.to_bytes(), Null, lease.as_secs_f64());
        let stored = self.store(*key, new).await?;
        let own = stored.0 == *token.as_bytes();
        Ok(match entry(stored)? {
            Entry::InProgress { .. } if own => Claim::Acquired,
            Entry::InProgress { fingerprint } => Claim::InProgress { fingerprint },
            Entry::Completed(record) => Claim::Completed(record),
        })
    }

    async fn complete(&self, key: &Key, token: Token, record: &Record, retention: Duration) -> Answer<Ownership> {
        let (fingerprint, bytes) = (record.fingerprint().to_bytes(), Vec::from(record.to_bytes()));
        let new = (*key.as_bytes(), *token.as_bytes(), fingerprint, bytes, retention.as_secs_f64());
        let (holder, ..) = self.store(*key, new).await?;
        Ok(if holder == *token.as_bytes() { Ownership::Held } else { Ownership::Lost })
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Answer<Ownership> {
        let sql = "UPDATE idempotency SET deadline = unixepoch('subsec') + ?3
            WHERE key = ?1 AND token = ?2 AND record IS NULL AND deadline > unixepoch('subsec')";
        let claim = (*key.as_bytes(), *token.as_bytes(), lease.as_secs_f64());
        let renewed = self.run(move |connection| connection.execute(sql, claim)).await?;
        Ok(if renewed == 1 { Ownership::Held } else { Ownership::Lost })
    }

    async fn release(&self, key: &Key, token: Token) -> Answer<()> {
        let sql = "DELETE FROM idempotency WHERE key = ?1 AND token = ?2 AND record IS NULL";
        let claim = (*key.as_bytes(), *token.as_bytes());
        self.run(move |connection| connection.execute(sql, claim)).await.map(drop)
    }

    async fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        let (sql, key) = (format!("{READ} AND deadline > unixepoch('subsec')"), *key.as_bytes());
        let _turn = self.crowd.lock().await;
        let stored = self.run(move |connection| connection.query_row(&sql, [key], |row| row.try_into()).optional());
        stored.await?.map(entry).transpose()
    }

    async fn remove(&self, key: &Key) -> Answer<bool> {
        let (sql, key) = ("DELETE FROM idempotency WHERE key = ?1 AND deadline > unixepoch('subsec')", *key.as_bytes());
        Ok(self.run(move |connection| connection.execute(sql, [key])).await? == 1)
    }
}

fn entry((_, fingerprint, record): Stored) -> Answer<Entry> {
    match record {
        None => Ok(Entry::InProgress { fingerprint: Fingerprint::from_bytes(fingerprint) }),
        Some(bytes) => Record::from_bytes(bytes.into()).map(Entry::Completed).map_err(BackendError::corrupt),
    }
}

fn backend_error(error: rusqlite::Error) -> BackendError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => BackendError::new(BackendErrorKind::TimedOut),
        Some(ErrorCode::TooBig) => BackendError::new(BackendErrorKind::TooLarge),
        Some(_) => BackendError::unavailable(error),
        None => BackendError::corrupt(error),
    }
}
