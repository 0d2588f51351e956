//! The commands on a shard: the table of [`Backend`](crate::Backend), row by row.

use std::{task::Waker, time::Duration};

use super::{Claimed, Shard, State};
use crate::{
    BackendErrorKind, Claim, Entry, Fingerprint, Ownership, Record, Token,
    backend::memory::{hashed::Hashed, leftovers::Leftovers, time::Time},
};

/// What a waiter sees.
#[derive(Debug)]
pub(in crate::backend::memory) enum Look {
    /// No run is in progress; the waiter is not registered any more.
    Settled(Option<Entry>),
    /// A run is in progress, until `deadline` unless renewed; the waiter is registered.
    InProgress { fingerprint: Fingerprint, deadline: Time },
}

impl Shard {
    pub(in crate::backend::memory) fn claim(
        &mut self,
        key: Hashed<'_>,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
        leftovers: &mut Leftovers,
    ) -> Result<Claim, BackendErrorKind> {
        if let Some(at) = self.live(key, leftovers) {
            let slot = &self.slots[at];
            return Ok(match &slot.state {
                State::InProgress(_) if slot.token == token => Claim::Acquired,
                State::InProgress(claim) => Claim::InProgress { fingerprint: self.claims[*claim].fingerprint },
                State::Completed(record) => Claim::Completed(record.clone()),
            });
        }
        self.clean_up(leftovers);
        self.make_room_for_entry(leftovers)?;
        let claim = self.claims.insert(Claimed { fingerprint: *fingerprint, waiters: None });
        self.insert(key, token, lease, State::InProgress(claim));
        Ok(Claim::Acquired)
    }

    pub(in crate::backend::memory) fn renew(
        &mut self,
        key: Hashed<'_>,
        token: Token,
        lease: Duration,
        leftovers: &mut Leftovers,
    ) -> Ownership {
        let Some((at, claim)) = self.own_claim(key, token, leftovers) else { return Ownership::Lost };
        let deadline = self.now.after(lease);
        if deadline < self.slots[at].deadline {
            // Waiters sleep until the deadline they saw.
            self.claims[claim].waiters.take().into_iter().for_each(|waiters| leftovers.wake(waiters));
        }
        self.slots[at].deadline = deadline;
        Ownership::Held
    }

    pub(in crate::backend::memory) fn complete(
        &mut self,
        key: Hashed<'_>,
        token: Token,
        record: Record,
        retention: Duration,
        leftovers: &mut Leftovers,
    ) -> Result<Ownership, BackendErrorKind> {
        let found = self.live(key, leftovers);
        if let Some(at) = found {
            let slot = &self.slots[at];
            match slot.state {
                _ if slot.token != token => return Ok(Ownership::Lost),
                State::Completed(_) => return Ok(Ownership::Held),
                State::InProgress(_) => {}
            }
        }
        if record.size() > self.bounds.bytes {
            return Err(BackendErrorKind::TooLarge);
        }
        if found.is_none() {
            self.clean_up(leftovers);
            self.make_room_for_entry(leftovers)?;
        }
        self.make_room_for_bytes(record.size(), leftovers);
        self.store(found, key, token, record, retention, leftovers);
        Ok(Ownership::Held)
    }

    pub(in crate::backend::memory) fn release(&mut self, key: Hashed<'_>, token: Token, leftovers: &mut Leftovers) {
        if let Some((at, _)) = self.own_claim(key, token, leftovers) {
            self.free_hashed(at, key.hash, leftovers);
        }
    }

    pub(in crate::backend::memory) fn get(&self, key: Hashed<'_>) -> Option<Entry> {
        let slot = self.find(key).map(|at| &self.slots[at]).filter(|slot| self.now < slot.deadline)?;
        Some(match &slot.state {
            State::InProgress(claim) => Entry::InProgress { fingerprint: self.claims[*claim].fingerprint },
            State::Completed(record) => Entry::Completed(record.clone()),
        })
    }

    pub(in crate::backend::memory) fn remove(&mut self, key: Hashed<'_>, leftovers: &mut Leftovers) -> bool {
        let found = self.live(key, leftovers);
        if let Some(at) = found {
            self.free_hashed(at, key.hash, leftovers);
        }
        found.is_some()
    }

    /// Looks at `key` for the waiter that has `ticket`, and registers `waker` while a run is in progress.
    ///
    /// One step under the lock: whatever ends the run comes either before it, and is seen, or after it, and wakes.
    pub(in crate::backend::memory) fn look(
        &mut self,
        key: Hashed<'_>,
        ticket: &mut Option<u64>,
        waker: Waker,
        leftovers: &mut Leftovers,
    ) -> Look {
        let Some((at, claim)) = self.live_claim(key, leftovers) else {
            *ticket = None;
            leftovers.drop_waker(waker);
            return Look::Settled(self.get(key));
        };
        let ticket = *ticket.get_or_insert_with(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        let claim = &mut self.claims[claim];
        if let Some(replaced) = claim.waiters.get_or_insert_default().insert(ticket, waker) {
            leftovers.drop_waker(replaced);
        }
        Look::InProgress { fingerprint: claim.fingerprint, deadline: self.slots[at].deadline }
    }

    /// Takes back what [`look`](Self::look) registered under `ticket`.
    pub(in crate::backend::memory) fn forget(&mut self, key: Hashed<'_>, ticket: u64, leftovers: &mut Leftovers) {
        if let Some((_, claim)) = self.live_claim(key, leftovers)
            && let Some(waiters) = &mut self.claims[claim].waiters
            && let Some(waker) = waiters.remove(&ticket)
        {
            leftovers.drop_waker(waker);
        }
    }
}
