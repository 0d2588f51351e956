//! The commands: one statement each.

use std::{sync::Arc, time::Duration};

use sqlx::{
    postgres::{PgRow, types::PgInterval},
    query,
};
use tokio::time::Instant;

use super::{PostgresBackend, connection::ask, subscriber::Notices, value};
use crate::{
    Backend, BackendError, BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, Token,
    backend::{
        board::Board,
        subscription::subscribe,
        watch::{self, Watched},
    },
};

/// How often a claim is sent that sees neither its own row nor another. Each time somebody else has changed the key.
const LOOKS: usize = 10;

/// The largest record. `pg_dump` writes two characters for each byte, and cannot write more than 1 GiB.
pub(super) const LARGEST: usize = 512 << 20;

impl Backend for PostgresBackend {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        let fingerprint = fingerprint.to_bytes();
        let row = self.claim_or_read(key, token, &fingerprint, lease).await?;
        let stored = value::decode(&row)?;
        Ok(match stored.entry {
            Entry::InProgress { .. } if stored.token == token => Claim::Acquired,
            Entry::InProgress { fingerprint } => Claim::InProgress { fingerprint },
            Entry::Completed(record) => Claim::Completed(record),
        })
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        let sql = &self.statements.renew;
        let renew =
            || query(sql).bind(key.as_bytes().as_slice()).bind(token.as_bytes().as_slice()).bind(interval(lease));
        ask(self.owner.pool(), self.timeout, renew).await.map(|row| ownership(row.as_ref()))
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        if record.size() > LARGEST {
            return Err(BackendError::new(BackendErrorKind::TooLarge));
        }
        let (sql, fingerprint, bytes) = (&self.statements.complete, record.fingerprint().to_bytes(), record.to_bytes());
        let complete = || {
            let changed = query(sql).bind(key.as_bytes().as_slice()).bind(lock(key)).bind(token.as_bytes().as_slice());
            changed.bind(fingerprint.as_slice()).bind(&*bytes).bind(interval(retention))
        };
        match ask(self.owner.pool(), self.timeout, complete).await {
            // Room may come while the lease lasts, so that it is worth while to go on sending.
            Err(error) if error.kind() == BackendErrorKind::Full => Err(BackendError::unavailable(error)),
            answer => answer.map(|row| ownership(row.as_ref())),
        }
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        let sql = &self.statements.release;
        let release = || query(sql).bind(key.as_bytes().as_slice()).bind(lock(key)).bind(token.as_bytes().as_slice());
        ask(self.owner.pool(), self.timeout, release).await.map(drop)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        let get = || query(&self.statements.get).bind(key.as_bytes().as_slice());
        let row = ask(&self.claims, self.timeout, get).await?;
        row.map(|row| value::decode(&row).map(|stored| stored.entry)).transpose()
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        let remove = || query(&self.statements.remove).bind(key.as_bytes().as_slice()).bind(lock(key));
        Ok(ask(&self.claims, self.timeout, remove).await?.is_some())
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        watch::wait(self, key, deadline).await
    }
}

impl Watched for PostgresBackend {
    fn board(&self) -> &Arc<Board> {
        &self.board
    }

    fn patience(&self) -> Duration {
        self.timeout
    }

    fn listen(&self) {
        self.board.listen(|board| subscribe(board, Notices::through(self.claims.clone())));
    }
}

impl PostgresBackend {
    async fn claim_or_read(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &[u8; Fingerprint::LEN],
        lease: Duration,
    ) -> Result<PgRow, BackendError> {
        let claim = || {
            let row = query(&self.statements.claim).bind(key.as_bytes().as_slice()).bind(token.as_bytes().as_slice());
            row.bind(fingerprint.as_slice()).bind(interval(lease))
        };
        for _ in 0..LOOKS {
            if let Some(row) = ask(&self.claims, self.timeout, claim).await? {
                return Ok(row);
            }
        }
        Err(BackendError::unavailable("the key was changed by others each time that it was looked at"))
    }
}

/// Each of an owner's statements returns a row if it took effect.
fn ownership(row: Option<&PgRow>) -> Ownership {
    if row.is_some() { Ownership::Held } else { Ownership::Lost }
}

/// The advisory lock of those who wait for a key. It may be that of another key as well, which costs a notice.
pub(super) fn lock(key: &Key) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *key.as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// A thousand years in microseconds: the server adds it to the time of day.
const LONGEST: i64 = 1000 * 365 * 24 * 60 * 60 * 1_000_000;

/// As the server counts, rounded up.
pub(super) fn interval(length: Duration) -> PgInterval {
    let microseconds = i64::try_from(length.as_nanos().div_ceil(1000)).unwrap_or(LONGEST).min(LONGEST);
    PgInterval { months: 0, days: 0, microseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_fit_the_server() {
        assert_eq!(interval(Duration::from_nanos(1)).microseconds, 1);
        assert_eq!(interval(Duration::from_secs(30)).microseconds, 30_000_000);
        assert_eq!(interval(Duration::MAX).microseconds, LONGEST);
    }
}
