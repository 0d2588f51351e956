//! [`Shard`]: one part of the keys, and how it is kept within its bounds.

mod cache;
mod commands;
#[cfg(all(test, not(idempotency_loom)))]
mod inspect;

use std::time::Duration;

use hashbrown::DefaultHashBuilder;

#[cfg(all(test, not(idempotency_loom)))]
pub(super) use self::inspect::Snapshot;
pub(super) use self::{cache::Removals, commands::Look};
use super::{
    hashed::{self, Hashed},
    index::Index,
    leftovers::{Leftovers, Waiters},
    order::{Links, Order},
    slab::{CHUNK, Slab},
    time::Time,
};
use crate::{BackendErrorKind, Fingerprint, Key, Record, Token};

/// Something is stored so many times between two sweeps. A sweep costs a cache miss whatever its length.
const STORES_PER_SWEEP: u32 = 8;

/// How many slots a sweep examines: several for each that was filled, so that clean-up outruns growth, and so few that
/// the lock is free again after microseconds when all of them have expired.
pub(super) const SWEEP: u32 = 32;
const _: () = assert!(CHUNK.is_multiple_of(SWEEP), "a sweep ends where a chunk does");

/// How many slots are searched for a dead claim, before a shard that holds nothing but claims is called full.
const SEARCH: u32 = 1024;

/// What a shard keeps at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Claims and records.
    pub(super) entries: usize,
    /// Bytes of records.
    pub(super) bytes: usize,
}

/// One part of the keys.
///
/// No code of others runs in here: what is removed, and may run some when it is dropped or woken, goes to the caller's
/// `leftovers`, to be settled after it has unlocked.
#[derive(Debug)]
#[repr(C)] // What every command touches is in the first lines of the cache.
pub(super) struct Shard {
    now: Time,
    slots: Slab<Slot>,
    claims: Slab<Claimed>,
    completed: Order,
    bytes: usize,
    hand: u32,
    stores: u32,
    bounds: Bounds,
    hasher: DefaultHashBuilder,
    next_ticket: u64,
    index: Index,
    removals: Removals,
}

/// A claim or a record. There is one per live record: every byte counts.
#[derive(Debug)]
pub(super) struct Slot {
    key: Key,
    token: Token,
    deadline: Time,
    state: State,
    pub(super) links: Links,
}

#[derive(Debug)]
enum State {
    /// Index of the claim's other half.
    InProgress(u32),
    Completed(Record),
}

/// The half of a claim that a record has no use for. Claims are few beside records.
#[derive(Debug)]
struct Claimed {
    fingerprint: Fingerprint,
    /// `None`: nobody has waited. Most claims end so, and a map costs time even if it stays empty.
    waiters: Option<Waiters>,
}

impl Shard {
    pub(super) fn new(bounds: Bounds, hasher: DefaultHashBuilder) -> Self {
        Self {
            bounds,
            hasher,
            index: Index::new(),
            slots: Slab::new(),
            claims: Slab::new(),
            completed: Order::default(),
            bytes: 0,
            hand: 0,
            stores: 0,
            now: Time::BIRTH,
            next_ticket: 0,
            removals: Removals::default(),
        }
    }

    /// Sets the clock. A command that read its time before another one, and got the lock after it, takes over the other
    /// one's time: in the order of the commands time never runs backwards.
    pub(super) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Claims and records kept, expired ones included.
    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the records kept.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn find(&self, key: Hashed<'_>) -> Option<u32> {
        self.index.find(key.hash, |at| self.slots[at].key == *key.key)
    }

    /// The slot of `key`, which is freed instead when it has expired.
    fn live(&mut self, key: Hashed<'_>, leftovers: &mut Leftovers) -> Option<u32> {
        let at = self.find(key)?;
        if self.now < self.slots[at].deadline {
            return Some(at);
        }
        self.free_hashed(at, key.hash, leftovers);
        None
    }

    fn live_claim(&mut self, key: Hashed<'_>, leftovers: &mut Leftovers) -> Option<(u32, u32)> {
        let at = self.live(key, leftovers)?;
        match self.slots[at].state {
            State::InProgress(claim) => Some((at, claim)),
            State::Completed(_) => None,
        }
    }

    fn own_claim(&mut self, key: Hashed<'_>, token: Token, leftovers: &mut Leftovers) -> Option<(u32, u32)> {
        self.live_claim(key, leftovers).filter(|&(at, _)| self.slots[at].token == token)
    }

    fn insert(&mut self, key: Hashed<'_>, token: Token, life: Duration, state: State) -> u32 {
        let deadline = self.now.after(life);
        let slot = self.slots.insert(Slot { key: *key.key, token, deadline, state, links: Links::NONE });
        self.index.insert(key.hash, slot, |at| hashed::hash(&self.hasher, &self.slots[at].key));
        slot
    }

    /// Puts `record` in place of the claim at `claim`, or under a key that has nothing.
    fn store(
        &mut self,
        claim: Option<u32>,
        key: Hashed<'_>,
        token: Token,
        record: Record,
        retention: Duration,
        leftovers: &mut Leftovers,
    ) {
        self.bytes += record.size();
        let completed = State::Completed(record);
        let at = match claim {
            None => self.insert(key, token, retention, completed),
            Some(at) => {
                let slot = &mut self.slots[at];
                slot.deadline = self.now.after(retention);
                if let State::InProgress(claim) = std::mem::replace(&mut slot.state, completed) {
                    self.end_claim(claim, leftovers);
                }
                at
            }
        };
        self.completed.push_newest(&mut self.slots, at);
    }

    /// Does the share of the clean-up that falls to one new entry: all of it every so often.
    fn clean_up(&mut self, leftovers: &mut Leftovers) {
        self.stores = (self.stores + 1) % STORES_PER_SWEEP;
        if self.stores == 0 {
            self.sweep(leftovers);
        }
    }

    /// Examines the next slots, frees those that have expired, and says whether there were any.
    fn sweep(&mut self, leftovers: &mut Leftovers) -> bool {
        let before = self.len();
        let end = self.hand + SWEEP;
        while let Some(expired) = self.slots.find(self.hand..end, |slot| slot.deadline <= self.now) {
            self.free(expired, leftovers);
            self.hand = expired;
        }
        self.hand = if end < self.slots.places() { end } else { 0 };
        self.len() < before
    }

    /// Lets the oldest record go if the entries are at their bound.
    fn make_room_for_entry(&mut self, leftovers: &mut Leftovers) -> Result<(), BackendErrorKind> {
        let roomy = self.len() < self.bounds.entries
            || self.evict_oldest(leftovers)
            || (0..SEARCH / SWEEP).any(|_| self.sweep(leftovers));
        if roomy { Ok(()) } else { Err(BackendErrorKind::Full) }
    }

    /// Lets the oldest records go until `size` further bytes are within the bound.
    fn make_room_for_bytes(&mut self, size: usize, leftovers: &mut Leftovers) {
        while self.bytes + size > self.bounds.bytes && self.evict_oldest(leftovers) {}
    }

    fn evict_oldest(&mut self, leftovers: &mut Leftovers) -> bool {
        let oldest = self.completed.oldest();
        if let Some(at) = oldest {
            self.free(at, leftovers);
        }
        oldest.is_some()
    }

    /// Empties the slot at `at`.
    fn free(&mut self, at: u32, leftovers: &mut Leftovers) {
        self.free_hashed(at, hashed::hash(&self.hasher, &self.slots[at].key), leftovers);
    }

    /// Empties the slot at `at`, whose key has that hash.
    fn free_hashed(&mut self, at: u32, hash: u64, leftovers: &mut Leftovers) {
        self.index.remove(hash, at);
        let Some(slot) = self.slots.remove(at) else { return };
        match slot.state {
            State::InProgress(claim) => self.end_claim(claim, leftovers),
            State::Completed(record) => {
                self.completed.unlink(&mut self.slots, slot.links);
                self.bytes -= record.size();
                leftovers.drop_record(record);
            }
        }
    }

    fn end_claim(&mut self, claim: u32, leftovers: &mut Leftovers) {
        if let Some(waiters) = self.claims.remove(claim).and_then(|claim| claim.waiters) {
            leftovers.wake(waiters);
        }
    }
}
