//! [`Store`]: the shards, and the way to one.

use std::{sync::PoisonError, task::Waker, time::Duration};

use hashbrown::DefaultHashBuilder;
use tokio::time::Instant;

use super::{
    hashed::Hashed,
    leftovers::Leftovers,
    shard::{Bounds, Look, Shard},
    time::Clock,
    waiter::Waiter,
};
use crate::{
    BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, Token,
    sync::{Mutex, MutexGuard},
};

const MAX_SHARDS: usize = 64;

/// A shard keeps at least so much, so that a full shard means an almost full store.
const MIN_BOUNDS: Bounds = Bounds { entries: 1024, bytes: 8 << 20 };

/// Below this size a record is copied into memory of its own: sharing the caller's costs an allocation as well, and
/// keeps both.
const COPIED_BELOW: usize = 1024;

/// All claims and records. Every command is one function that locks one shard and never waits.
#[derive(Debug)]
pub(super) struct Store {
    shards: Box<[Aligned]>,
    hasher: DefaultHashBuilder,
    clock: Clock,
}

/// Keeps two shards out of one cache line, or pair of lines that is fetched together.
#[derive(Debug)]
#[repr(align(128))]
struct Aligned(Mutex<Shard>);

impl Store {
    pub(super) fn new(bounds: Bounds) -> Self {
        let hasher = DefaultHashBuilder::default();
        let count = shard_count(bounds);
        // A shard names its slots with 32 bits.
        let entries = (bounds.entries / count).min(u32::MAX as usize);
        let bounds = Bounds { entries, bytes: bounds.bytes / count };
        let shard = || Aligned(Mutex::new(Shard::new(bounds, hasher.clone())));
        Self { shards: std::iter::repeat_with(shard).take(count).collect(), hasher, clock: Clock::new() }
    }

    pub(super) fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
        now: Instant,
    ) -> Result<Claim, BackendErrorKind> {
        self.at(now, key, |shard, key, leftovers| shard.claim(key, token, fingerprint, lease, leftovers))
    }

    pub(super) fn renew(&self, key: &Key, token: Token, lease: Duration, now: Instant) -> Ownership {
        self.at(now, key, |shard, key, leftovers| shard.renew(key, token, lease, leftovers))
    }

    pub(super) fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
        now: Instant,
    ) -> Result<Ownership, BackendErrorKind> {
        let record = if record.size() < COPIED_BELOW { record.detached() } else { record.clone() };
        self.at(now, key, |shard, key, leftovers| shard.complete(key, token, record, retention, leftovers))
    }

    pub(super) fn release(&self, key: &Key, token: Token, now: Instant) {
        self.at(now, key, |shard, key, leftovers| shard.release(key, token, leftovers));
    }

    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Entry> {
        self.at(now, key, |shard, key, _| shard.get(key))
    }

    pub(super) fn remove(&self, key: &Key, now: Instant) -> bool {
        self.at(now, key, Shard::remove)
    }

    /// A waiter for the run under `key` to end.
    pub(super) const fn waiter<'a>(&'a self, key: &'a Key) -> Waiter<'a> {
        Waiter::new(self, key)
    }

    pub(super) fn look(&self, ticket: &mut Option<u64>, key: &Key, waker: Waker, now: Instant) -> Look {
        self.at(now, key, |shard, key, leftovers| shard.look(key, ticket, waker, leftovers))
    }

    pub(super) fn forget(&self, ticket: u64, key: &Key) {
        self.locked(key, |shard, key, leftovers| shard.forget(key, ticket, leftovers));
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The sum of what `count` counts in every shard, one after the other.
    pub(super) fn sum(&self, count: impl Fn(&Shard) -> usize) -> usize {
        self.shards.iter().map(|shard| count(&lock(shard))).sum()
    }

    pub(super) fn at<T>(
        &self,
        now: Instant,
        key: &Key,
        command: impl FnOnce(&mut Shard, Hashed<'_>, &mut Leftovers) -> T,
    ) -> T {
        let now = self.clock.time(now);
        self.locked(key, |shard, key, leftovers| {
            shard.advance(now);
            command(shard, key, leftovers)
        })
    }

    pub(super) fn locked<T>(&self, key: &Key, command: impl FnOnce(&mut Shard, Hashed<'_>, &mut Leftovers) -> T) -> T {
        let key = Hashed::new(&self.hasher, key);
        // Made before the lock is taken, so that it is dropped after the lock is given back.
        let mut leftovers = Leftovers::default();
        let mut shard = lock(&self.shards[key.shard() & (self.shards.len() - 1)]);
        command(&mut shard, key, &mut leftovers)
    }
}

/// A power of two, so that a mask chooses the shard.
pub(super) fn shard_count(bounds: Bounds) -> usize {
    let fitting = (bounds.entries / MIN_BOUNDS.entries).min(bounds.bytes / MIN_BOUNDS.bytes);
    match fitting.min(MAX_SHARDS) {
        0 => 1,
        count => 1 << count.ilog2(),
    }
}

/// A shard is used on although a thread panicked while it held the lock. Under the lock no code of others runs and
/// nothing is expected to panic, so this is a bug or an interrupted test; to answer every later request of the shard
/// with a panic would turn it into an outage.
fn lock(shard: &Aligned) -> MutexGuard<'_, Shard> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}
