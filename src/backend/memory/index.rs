//! [`Index`]: from the hash of a key to its slot.

use hashbrown::HashTable;

/// A table that grows moves everything in it, while the lock is held. One of many tables has little to move. More of them
/// would cost every command: their heads no longer fit into the caches.
const TABLES: usize = 16;

/// Slots by the hashes of their keys.
///
/// The hashes are not kept, although a table that grows has to compute them anew: without them a place is half as large.
#[derive(Debug)]
pub(super) struct Index {
    tables: [HashTable<u32>; TABLES],
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { tables: [const { HashTable::new() }; TABLES] }
    }

    /// The slot with that hash for which `is_it` is true.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.tables[table(hash)].find(hash, |slot| is_it(*slot)).copied()
    }

    /// Adds a slot that is not in here. `hash_of` tells the hashes of those that are.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        self.tables[table(hash)].insert_unique(hash, slot, |slot| hash_of(*slot));
    }

    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        if let Ok(place) = self.tables[table(hash)].find_entry(hash, |other| *other == slot) {
            place.remove();
        }
    }

    #[cfg(all(test, not(idempotency_loom)))]
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.tables.iter().flatten().copied()
    }
}

/// Chosen by bits that neither a shard nor a place in a table is chosen by.
const fn table(hash: u64) -> usize {
    (hash >> 48) as usize % TABLES
}

#[cfg(all(test, not(idempotency_loom)))]
mod tests {
    use std::{cell::Cell, hash::BuildHasher};

    use hashbrown::DefaultHashBuilder;

    use super::*;

    /// How many slots a shard of a store for 1,000,000 entries has, if it keeps 256 MiB at most.
    const SHARE: u32 = 31_250;

    #[test]
    fn a_slot_added_moves_a_small_part_of_a_shard() {
        let hasher = DefaultHashBuilder::default();
        let mut index = Index::new();
        for slot in 0..SHARE {
            let moved = Cell::new(0);
            index.insert(hasher.hash_one(slot), slot, |other| {
                moved.set(moved.get() + 1);
                hasher.hash_one(other)
            });
            assert!(moved.get() <= 1792, "{} were moved for slot {slot}", moved.get());
        }
        let mut kept: Vec<_> = index.iter().collect();
        kept.sort_unstable();
        assert!(kept.into_iter().eq(0..SHARE));
    }
}
