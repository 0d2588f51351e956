//! [`Shard`]: one part of the keys, and how it is kept within its bounds.

mod cache;
mod commands;
#[cfg(all(test, not(idempotency_loom)))]
mod inspect;

use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

#[cfg(all(test, not(idempotency_loom)))]
pub(super) use self::inspect::Snapshot;
pub(super) use self::{cache::Removals, commands::Look};
use super::{
    hashed::Hashed,
    leftovers::{Leftovers, Waiters},
    order::{Links, Order},
    slab::Slab,
    time::Time,
};
use crate::{BackendErrorKind, Fingerprint, Key, Record, Token};

/// Something is stored so many times between two sweeps. A sweep costs a cache miss whatever its length.
const STORES_PER_SWEEP: u32 = 8;

/// How many slots a sweep examines: several for each that was filled, so that clean-up outruns growth, and so few that
/// the lock is free again after microseconds when all of them have expired.
pub(super) const SWEEP: u32 = 32;

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
/// No code of others runs in here: what is removed, and may run some when it is dropped or woken, goes to `leftovers`,
/// for the caller to settle after it has unlocked.
#[derive(Debug)]
pub(super) struct Shard {
    bounds: Bounds,
    hasher: DefaultHashBuilder,
    index: HashTable<Place>,
    slots: Slab<Slot>,
    claims: Slab<Claimed>,
    completed: Order,
    bytes: usize,
    hand: u32,
    stores: u32,
    now: Time,
    next_ticket: u64,
    removals: Removals,
    leftovers: Leftovers,
}

/// Where a key's slot is. The hash is kept so that growing the index neither hashes nor visits the slots.
#[derive(Debug)]
struct Place {
    hash: u32,
    slot: u32,
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
    waiters: Waiters,
}

impl Shard {
    pub(super) fn new(bounds: Bounds, hasher: DefaultHashBuilder) -> Self {
        Self {
            bounds,
            hasher,
            index: HashTable::new(),
            slots: Slab::new(),
            claims: Slab::new(),
            completed: Order::default(),
            bytes: 0,
            hand: 0,
            stores: 0,
            now: Time::BIRTH,
            next_ticket: 0,
            removals: Removals::default(),
            leftovers: Leftovers::default(),
        }
    }

    /// Sets the clock. A command that read its time before another one, and got the lock after it, takes over the other
    /// one's time: in the order of the commands time never runs backwards.
    pub(super) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// What the last commands removed.
    pub(super) fn take_leftovers(&mut self) -> Leftovers {
        std::mem::take(&mut self.leftovers)
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
        let same = |place: &Place| place.hash == key.hash && self.slots[place.slot].key == *key.key;
        self.index.find(spread(key.hash), same).map(|place| place.slot)
    }

    /// The slot of `key`, which is freed instead when it has expired.
    fn live(&mut self, key: Hashed<'_>) -> Option<u32> {
        let at = self.find(key)?;
        if self.now < self.slots[at].deadline {
            return Some(at);
        }
        self.free(at);
        None
    }

    fn live_claim(&mut self, key: Hashed<'_>) -> Option<(u32, u32)> {
        let at = self.live(key)?;
        match self.slots[at].state {
            State::InProgress(claim) => Some((at, claim)),
            State::Completed(_) => None,
        }
    }

    fn own_claim(&mut self, key: Hashed<'_>, token: Token) -> Option<(u32, u32)> {
        self.live_claim(key).filter(|&(at, _)| self.slots[at].token == token)
    }

    fn insert(&mut self, key: Hashed<'_>, token: Token, life: Duration, state: State) -> u32 {
        let deadline = self.now.after(life);
        let slot = self.slots.insert(Slot { key: *key.key, token, deadline, state, links: Links::NONE });
        self.index.insert_unique(spread(key.hash), Place { hash: key.hash, slot }, |place| spread(place.hash));
        slot
    }

    /// Puts `record` in place of the claim at `claim`, or under a key that has nothing.
    fn store(&mut self, claim: Option<u32>, key: Hashed<'_>, token: Token, record: Record, retention: Duration) {
        self.bytes += record.size();
        let completed = State::Completed(record);
        let at = match claim {
            None => self.insert(key, token, retention, completed),
            Some(at) => {
                let slot = &mut self.slots[at];
                slot.deadline = self.now.after(retention);
                let ended = std::mem::replace(&mut slot.state, completed);
                self.discard(ended);
                at
            }
        };
        self.completed.push_newest(&mut self.slots, at);
    }

    /// Does the share of the clean-up that falls to one store: all of it every so often.
    fn sweep(&mut self) {
        self.stores = (self.stores + 1) % STORES_PER_SWEEP;
        if self.stores == 0 {
            for _ in 0..SWEEP {
                self.examine_next();
            }
        }
    }

    /// Examines the next slot, frees it if it has expired, and says so.
    fn examine_next(&mut self) -> bool {
        self.hand = if self.hand + 1 < self.slots.places() { self.hand + 1 } else { 0 };
        let expired = self.slots.get(self.hand).is_some_and(|slot| slot.deadline <= self.now);
        if expired {
            self.free(self.hand);
        }
        expired
    }

    /// Lets the oldest record go if the entries are at their bound.
    fn make_room_for_entry(&mut self) -> Result<(), BackendErrorKind> {
        let roomy = self.len() < self.bounds.entries || self.evict_oldest() || (0..SEARCH).any(|_| self.examine_next());
        if roomy { Ok(()) } else { Err(BackendErrorKind::Full) }
    }

    /// Lets the oldest records go until `size` further bytes are within the bound.
    fn make_room_for_bytes(&mut self, size: usize) {
        while self.bytes + size > self.bounds.bytes && self.evict_oldest() {}
    }

    fn evict_oldest(&mut self) -> bool {
        let oldest = self.completed.oldest();
        if let Some(at) = oldest {
            self.free(at);
        }
        oldest.is_some()
    }

    /// Empties the slot at `at`.
    fn free(&mut self, at: u32) {
        let hash = Hashed::new(&self.hasher, &self.slots[at].key).hash;
        if let Ok(place) = self.index.find_entry(spread(hash), |place| place.slot == at) {
            place.remove();
        }
        if let State::Completed(_) = self.slots[at].state {
            self.completed.unlink(&mut self.slots, at);
        }
        if let Some(slot) = self.slots.remove(at) {
            self.discard(slot.state);
        }
    }

    fn discard(&mut self, state: State) {
        match state {
            State::InProgress(claim) => {
                if let Some(claim) = self.claims.remove(claim) {
                    self.leftovers.wake(claim.waiters);
                }
            }
            State::Completed(record) => {
                self.bytes -= record.size();
                self.leftovers.drop_record(record);
            }
        }
    }
}

/// hashbrown takes the bucket from the low bits and the tag from the seven highest.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}
