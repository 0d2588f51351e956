//! A memory as the cache of another backend: it holds copies of records, and notes of the claims of this process.

use std::time::Duration;

use tokio::time::Instant;

use super::{MemoryBackend, shard::Shard};
use crate::{Fingerprint, Key, Record, Token};

/// A search for a record, which goes on elsewhere.
#[derive(Debug)]
pub(in crate::backend) struct Search {
    since: Instant,
    before: Before,
}

/// What there was here when a search began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// The note of a claim: its token.
    pub(super) note: Option<Token>,
    /// How many steps of removals there had been.
    pub(super) removals: u64,
}

/// How a record was seen elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) enum Seen {
    /// It was found.
    Found,
    /// It was stored by the first complete of its run.
    Stored,
}

/// From its beginning to its end no copy of what is being removed can be found, or be made.
#[derive(Debug)]
pub(in crate::backend) struct Removal<'a> {
    memory: &'a MemoryBackend,
    key: &'a Key,
}

impl MemoryBackend {
    /// The record kept under `key`.
    pub(in crate::backend) fn search(&self, key: &Key) -> (Option<Record>, Search) {
        let since = Instant::now();
        let (record, before) = self.store.at(since, key, |shard, key, _| shard.search(key));
        (record, Search { since, before })
    }

    /// Keeps a record that was seen elsewhere, for the length of `life` from the beginning of `search`; unless it may have
    /// been removed since.
    pub(in crate::backend) fn keep(&self, key: &Key, record: Record, seen: Seen, life: Duration, search: &Search) {
        let now = Instant::now();
        let left = life.saturating_sub(now.saturating_duration_since(search.since));
        if !left.is_zero() {
            self.store
                .at(now, key, |shard, key, leftovers| shard.keep(key, record, seen, left, search.before, leftovers));
        }
    }

    /// Notes that `token` holds the key elsewhere.
    pub(in crate::backend) fn note(&self, key: &Key, token: Token, fingerprint: &Fingerprint, lease: Duration) {
        self.store
            .at(Instant::now(), key, |shard, key, leftovers| shard.note(key, token, fingerprint, lease, leftovers));
    }

    /// Strikes out that `token` holds the key, and says whether it was noted.
    pub(in crate::backend) fn strike(&self, key: &Key, token: Token) -> bool {
        self.store.at(Instant::now(), key, |shard, key, leftovers| shard.strike(key, token, leftovers))
    }

    /// Forgets `key`.
    pub(in crate::backend) fn begin_removal<'a>(&'a self, key: &'a Key) -> Removal<'a> {
        self.store.at(Instant::now(), key, Shard::begin_removal);
        Removal { memory: self, key }
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.memory.store.at(Instant::now(), self.key, |shard, key, _| shard.end_removal(key));
    }
}
