//! What tests see of a shard.

use std::collections::BTreeMap;

use super::{Shard, State};
use crate::{
    Entry, Token,
    backend::memory::{hashed::Hashed, time::Time},
};

/// All that is kept under a key, expired or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backend::memory) struct Snapshot {
    pub(in crate::backend::memory) token: Token,
    pub(in crate::backend::memory) deadline: Time,
    pub(in crate::backend::memory) entry: Entry,
    pub(in crate::backend::memory) waiters: usize,
}

impl Shard {
    pub(in crate::backend::memory) fn snapshot(&mut self, key: Hashed<'_>) -> Option<Snapshot> {
        let slot = &self.slots[self.find(key)?];
        let (entry, waiters) = match &slot.state {
            State::InProgress(claim) => {
                let claim = &self.claims[*claim];
                (Entry::InProgress { fingerprint: claim.fingerprint }, claim.waiters.as_ref().map_or(0, BTreeMap::len))
            }
            State::Completed(record) => (Entry::Completed(record.clone()), 0),
        };
        Some(Snapshot { token: slot.token, deadline: slot.deadline, entry, waiters })
    }

    /// Claims kept, expired ones included.
    pub(in crate::backend::memory) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Panics unless index, slots, claims, order and counters tell the same story within the bounds.
    pub(in crate::backend::memory) fn assert_consistent(&self) {
        assert_eq!(self.index.iter().count(), self.slots.len());
        for slot in self.index.iter() {
            assert_eq!(self.find(Hashed::new(&self.hasher, &self.slots[slot].key)), Some(slot));
        }
        let mut bytes = 0;
        let mut completed = 0;
        let mut next = self.completed.oldest();
        while let Some(at) = next {
            let State::Completed(record) = &self.slots[at].state else { panic!("a claim is in line for eviction") };
            bytes += record.size();
            completed += 1;
            next = self.slots[at].links.newer();
        }
        assert_eq!(bytes, self.bytes);
        assert_eq!(completed + self.claims.len(), self.slots.len());
        assert!(self.slots.len() <= self.bounds.entries);
        assert!(self.bytes <= self.bounds.bytes);
    }
}
