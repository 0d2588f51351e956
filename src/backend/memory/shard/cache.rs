//! The commands on a shard of a memory that is the cache of another backend.

use std::{collections::VecDeque, time::Duration};

use super::{Shard, Slot, State};
use crate::{
    Fingerprint, Key, Record, Token,
    backend::memory::{
        cache::{Before, Seen},
        hashed::Hashed,
        leftovers::Leftovers,
    },
};

/// The token of a copy: nobody asks for it.
const NOBODY: Token = Token::from_bytes([0; Token::LEN]);

/// So many steps of removals are remembered in a shard. A search during which there were more brings no copy.
const REMEMBERED: usize = 64;

/// The removals from a shard. They are rare: an operator's.
#[derive(Debug, Default)]
pub(in crate::backend::memory) struct Removals {
    under_way: Vec<Key>,
    /// The keys whose removal has begun or ended, the latest last.
    steps: VecDeque<Key>,
    /// How many steps there have been.
    count: u64,
}

impl Removals {
    /// Whether `key` has perhaps been removed since there had been `count` steps.
    fn may_concern(&self, key: &Key, count: u64) -> bool {
        let since = usize::try_from(self.count - count).unwrap_or(usize::MAX);
        since > self.steps.len() || self.steps.iter().rev().take(since).chain(&self.under_way).any(|other| other == key)
    }

    fn step(&mut self, key: &Key) {
        if self.steps.len() == REMEMBERED {
            self.steps.pop_front();
        }
        self.steps.push_back(*key);
        self.count += 1;
    }
}

impl Shard {
    /// The record under `key`, and what else there is.
    pub(in crate::backend::memory) fn search(&self, key: Hashed<'_>) -> (Option<Record>, Before) {
        let found = self.find(key).map(|at| &self.slots[at]).filter(|slot| self.now < slot.deadline);
        let (record, note) = match found.map(|slot| (&slot.state, slot.token)) {
            Some((State::Completed(record), _)) => (Some(record.clone()), None),
            Some((State::InProgress(_), token)) => (None, Some(token)),
            None => (None, None),
        };
        (record, Before { note, removals: self.removals.count })
    }

    /// Keeps a copy of a record, unless its key was removed since the search, when there was what `before` says.
    ///
    /// What was found elsewhere is no newer than what is here, be it a record or the note of a claim; but for a note that
    /// was here before it was searched for: that run is over, and has stored its record by other means.
    pub(in crate::backend::memory) fn keep(
        &mut self,
        key: Hashed<'_>,
        record: Record,
        seen: Seen,
        life: Duration,
        before: Before,
        leftovers: &mut Leftovers,
    ) {
        let may_be_gone = self.removals.may_concern(key.key, before.removals);
        let is_newer = |slot: &Slot| matches!(slot.state, State::Completed(_)) || before.note != Some(slot.token);
        let older = seen == Seen::Found && self.live(key, leftovers).is_some_and(|at| is_newer(&self.slots[at]));
        if may_be_gone || older || record.size() > self.bounds.bytes {
            return leftovers.drop_record(record);
        }
        self.remove(key, leftovers);
        self.clean_up(leftovers);
        if self.make_room_for_entry(leftovers).is_err() {
            return leftovers.drop_record(record);
        }
        self.make_room_for_bytes(record.size(), leftovers);
        self.store(None, key, NOBODY, record, life, leftovers);
    }

    /// Notes a claim that is held elsewhere, in place of a copy: whose original is gone, then. A full shard notes none.
    pub(in crate::backend::memory) fn note(
        &mut self,
        key: Hashed<'_>,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
        leftovers: &mut Leftovers,
    ) {
        if let Some(at) = self.live(key, leftovers)
            && matches!(self.slots[at].state, State::Completed(_))
        {
            self.free_hashed(at, key.hash, leftovers);
        }
        let _ = self.claim(key, token, fingerprint, lease, leftovers);
    }

    /// Strikes out the note of a claim, and says whether there was one.
    pub(in crate::backend::memory) fn strike(
        &mut self,
        key: Hashed<'_>,
        token: Token,
        leftovers: &mut Leftovers,
    ) -> bool {
        let noted = self.own_claim(key, token, leftovers);
        if let Some((at, _)) = noted {
            self.free_hashed(at, key.hash, leftovers);
        }
        noted.is_some()
    }

    pub(in crate::backend::memory) fn begin_removal(&mut self, key: Hashed<'_>, leftovers: &mut Leftovers) {
        self.removals.under_way.push(*key.key);
        self.removals.step(key.key);
        self.remove(key, leftovers);
    }

    pub(in crate::backend::memory) fn end_removal(&mut self, key: Hashed<'_>) {
        let under_way = &mut self.removals.under_way;
        if let Some(at) = under_way.iter().position(|other| other == key.key) {
            under_way.swap_remove(at);
        }
        self.removals.step(key.key);
    }
}
