//! The commands: one round trip each.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use redis::{Cmd, RedisError, RedisResult, Value, aio::ConnectionLike, cmd};
use tokio::time::Instant;

use super::{
    RedisBackend,
    failure::{in_time, says},
    script::{CLAIM, COMPLETE, RELEASE, REMOVE, RENEW, Script},
    value::{self, Stored},
};
use crate::{
    Backend, BackendError, BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, Token,
    backend::{
        board::Board,
        subscription::subscribe,
        watch::{self, Watched},
    },
    key::hex_digits,
};

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Backend for RedisBackend<C> {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        let claim = value::claim(token, fingerprint);
        let found = in_time(self.timeout, self.claim_or_read(&self.name(key), &claim, lease)).await?;
        Ok(match stored(found)? {
            None => Claim::Acquired,
            Some(Stored::InProgress { token: holder, .. }) if holder == token => Claim::Acquired,
            Some(Stored::InProgress { fingerprint, .. }) => Claim::InProgress { fingerprint },
            Some(Stored::Completed(record)) => Claim::Completed(record),
        })
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        let answer = self.run(&self.owner, &RENEW, key, |call| {
            call.arg(&value::claim_header(token)).arg(milliseconds(lease));
        });
        ownership(answer.await?)
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        if !value::fits(record) {
            return Err(BackendError::new(BackendErrorKind::TooLarge));
        }
        let answer = self.run(&self.owner, &COMPLETE, key, |call| {
            call.arg(&value::claim_header(token));
            value::write_completed(call, token, record);
            call.arg(milliseconds(retention));
            self.write_notice(call, key);
        });
        match answer.await {
            // Room may come while the lease lasts, so that it is worth while to go on sending.
            Err(error) if error.kind() == BackendErrorKind::Full => Err(BackendError::unavailable(error)),
            answer => ownership(answer?),
        }
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        let answer = self.run(&self.owner, &RELEASE, key, |call| {
            call.arg(&value::claim_header(token));
            self.write_notice(call, key);
        });
        ownership(answer.await?).map(drop)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        let answer = async {
            let mut connection = self.claims.clone();
            cmd("GET").arg(self.name(key)).query_async(&mut connection).await
        };
        let found = stored(in_time(self.timeout, answer).await?)?;
        Ok(found.map(|found| match found {
            Stored::InProgress { fingerprint, .. } => Entry::InProgress { fingerprint },
            Stored::Completed(record) => Entry::Completed(record),
        }))
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        let answer = self.run(&self.claims, &REMOVE, key, |call| self.write_notice(call, key));
        Ok(answer.await? == Value::Int(1))
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        watch::wait(self, key, deadline).await
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Watched for RedisBackend<C> {
    fn board(&self) -> &Arc<Board> {
        &self.board
    }

    fn patience(&self) -> Duration {
        self.timeout
    }

    fn listen(&self) {
        if let Some(channel) = &self.channel {
            self.board.listen(|board| subscribe(board, channel.clone()));
        }
    }
}

impl<C> RedisBackend<C> {
    /// The name of a key in Redis. No byte of it is chosen by a client.
    fn name(&self, key: &Key) -> String {
        let mut name = String::with_capacity(self.prefix.len() + 2 * Key::LEN);
        name.push_str(&self.prefix);
        name.extend(hex_digits(key.as_bytes()));
        name
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisBackend<C> {
    /// Writes `claim` where nothing is. The answer is nil then, and the value that is there otherwise.
    async fn claim_or_read(&self, name: &str, claim: &[u8], lease: Duration) -> RedisResult<Value> {
        let mut connection = self.claims.clone();
        let lease = milliseconds(lease);
        if !self.lacks_nx_get.load(Ordering::Relaxed) {
            let mut set = Cmd::with_capacity(7, name.len() + claim.len() + 32);
            set.arg("SET").arg(name).arg(claim).arg("NX").arg("GET").arg("PX").arg(lease);
            match set.query_async(&mut connection).await {
                Err(error) if says(&error, "syntax error") => self.lacks_nx_get.store(true, Ordering::Relaxed),
                Err(error) if says(&error, "OOM") => return read_or(error, name, &mut connection).await,
                answer => return answer,
            }
        }
        let write = |call: &mut Cmd| {
            call.arg(claim).arg(lease);
        };
        CLAIM.run(&mut connection, name, write).await
    }

    async fn run(
        &self,
        connection: &C,
        script: &Script,
        key: &Key,
        write: impl Fn(&mut Cmd),
    ) -> Result<Value, BackendError> {
        let mut connection = connection.clone();
        let name = self.name(key);
        in_time(self.timeout, script.run(&mut connection, &name, write)).await
    }

    /// The channel and the message by which a script tells that a key is no longer in progress.
    fn write_notice(&self, call: &mut Cmd, key: &Key) {
        call.arg(self.channel.as_ref().map_or("", |channel| &channel.name)).arg(key.as_bytes());
    }
}

/// A server that is full refuses a claim before it looks for what is there. Then that is what counts, if there is any.
async fn read_or(full: RedisError, name: &str, connection: &mut impl ConnectionLike) -> RedisResult<Value> {
    match cmd("GET").arg(name).query_async(connection).await? {
        Value::Nil => Err(full),
        found => Ok(found),
    }
}

/// What an answer says is stored.
fn stored(answer: Value) -> Result<Option<Stored>, BackendError> {
    match answer {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => value::decode(bytes).map(Some).map_err(BackendError::corrupt),
        other => Err(unexpected(&other)),
    }
}

/// What the answer of a script says: 1, 0, or the header of the value that is there.
fn ownership(answer: Value) -> Result<Ownership, BackendError> {
    match answer {
        Value::Int(1) => Ok(Ownership::Held),
        Value::Int(0) => Ok(Ownership::Lost),
        Value::BulkString(header) => {
            value::check_header(&header).map_err(BackendError::corrupt)?;
            Ok(Ownership::Lost)
        }
        other => Err(unexpected(&other)),
    }
}

/// Not `Corrupt`, which would say that the command had no effect.
fn unexpected(answer: &Value) -> BackendError {
    BackendError::unavailable(format!("an answer that no Redis gives: {answer:?}"))
}

/// A thousand years in milliseconds. Redis adds it to the time of day, which has to fit 63 bits.
const LONGEST: u64 = 1000 * 365 * 24 * 60 * 60 * 1000;

/// As Redis counts, rounded up. Zero would be refused.
fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(LONGEST).clamp(1, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `{tag}` would make Redis Cluster choose the slot by the client's will.
    #[test]
    fn no_byte_of_a_name_is_the_clients() {
        let backend = RedisBackend::new((), ()).prefix("orders:");
        for text in ["{tag}key", "key\r\nFLUSHALL\r\n", "a b:c*?[d]"] {
            let name = backend.name(&Key::new("{namespace}", text));
            let digits = name.strip_prefix("orders:").expect("the prefix");
            assert_eq!(digits.len(), 64);
            assert!(digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{name}");
        }
    }

    #[test]
    fn lengths_of_time_that_redis_would_refuse_are_never_sent() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_secs(30)), 30_000);
        assert_eq!(milliseconds(Duration::from_micros(10_001)), 11, "nothing lives shorter than it is said to");
        assert_eq!(milliseconds(Duration::MAX), LONGEST);
    }
}
