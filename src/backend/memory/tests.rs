//! Everything but the lock: that one is in `loom.rs`.

mod bounds;
mod commands;
mod expiry;
mod random;
mod waiting;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    shard::{Bounds, Shard, Snapshot},
    store::Store,
};
use crate::{BackendErrorKind, Claim, Fingerprint, Key, Ownership, Record, Token};

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(100);
const OURS: Token = Token::from_bytes([1; Token::LEN]);
const THEIRS: Token = Token::from_bytes([2; Token::LEN]);

/// A store, and a clock that the test moves.
struct Fixture {
    store: Store,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self::bounded(1000, 1 << 20)
    }

    /// One shard, when the bounds are as small as in most tests.
    fn bounded(entries: usize, bytes: usize) -> Self {
        Self { store: Store::new(Bounds { entries, bytes }), now: Instant::now() }
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
    }

    fn claim(&self, key: Key, token: Token) -> Result<Claim, BackendErrorKind> {
        self.store.claim(&key, token, &fingerprint(token), LEASE, self.now)
    }

    fn acquire(&self, key: Key, token: Token) {
        assert_eq!(self.claim(key, token), Ok(Claim::Acquired));
    }

    fn complete(&self, key: Key, token: Token, record: &Record) -> Result<Ownership, BackendErrorKind> {
        self.store.complete(&key, token, record, RETENTION, self.now)
    }

    /// Claims and completes.
    fn run(&self, key: Key, record: &Record) {
        self.acquire(key, OURS);
        assert_eq!(self.complete(key, OURS, record), Ok(Ownership::Held));
    }

    fn holds(&self, key: Key) -> bool {
        self.store.get(&key, self.now).is_some()
    }

    fn snapshot(&self, key: Key) -> Option<Snapshot> {
        self.store.locked(&key, |shard, key, _| shard.snapshot(key))
    }

    fn len(&self) -> usize {
        self.store.sum(Shard::len)
    }

    fn bytes(&self) -> usize {
        self.store.sum(Shard::bytes)
    }

    fn assert_consistent(&self) {
        self.store.sum(|shard| {
            shard.assert_consistent();
            0
        });
    }
}

/// What the holder of `token` claims with.
fn fingerprint(token: Token) -> Fingerprint {
    Fingerprint::of(token.as_bytes())
}

fn key(number: usize) -> Key {
    Key::new("", number.to_string())
}

/// A record of `size` bytes.
fn record(size: usize) -> Record {
    let fingerprint = Fingerprint::of("any");
    let record = Record::value(&fingerprint, &vec![7; size - Record::tombstone(&fingerprint).size()]);
    assert_eq!(record.size(), size);
    record
}
