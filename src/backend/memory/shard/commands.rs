//! The commands on a shard: the table of [`Backend`](crate::Backend), row by row.

use std::{task::Waker, time::Duration};

use super::{Claimed, Shard, State};
use crate::{
    BackendErrorKind, Claim, Entry, Fingerprint, Ownership, Record, Token,
    backend::memory::{hashed::Hashed, leftovers::Waiters, time::Time},
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
    ) -> Result<Claim, BackendErrorKind> {
        if let Some(at) = self.live(key) {
            let slot = &self.slots[at];
            return Ok(match &slot.state {
                State::InProgress(_) if slot.token == token => Claim::Acquired,
                State::InProgress(claim) => Claim::InProgress { fingerprint: self.claims[*claim].fingerprint },
                State::Completed(record) => Claim::Completed(record.clone()),
            });
        }
        self.sweep();
        self.make_room_for_entry()?;
        let claim = self.claims.insert(Claimed { fingerprint: *fingerprint, waiters: Waiters::new() });
        self.insert(key, token, lease, State::InProgress(claim));
        Ok(Claim::Acquired)
    }

    pub(in crate::backend::memory) fn renew(&mut self, key: Hashed<'_>, token: Token, lease: Duration) -> Ownership {
        let Some((at, claim)) = self.own_claim(key, token) else { return Ownership::Lost };
        let deadline = self.now.after(lease);
        if deadline < self.slots[at].deadline {
            // Waiters sleep until the deadline they saw.
            self.leftovers.wake(std::mem::take(&mut self.claims[claim].waiters));
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
    ) -> Result<Ownership, BackendErrorKind> {
        let found = self.live(key);
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
        self.sweep();
        if found.is_none() {
            self.make_room_for_entry()?;
        }
        self.make_room_for_bytes(record.size());
        self.store(found, key, token, record, retention);
        Ok(Ownership::Held)
    }

    pub(in crate::backend::memory) fn release(&mut self, key: Hashed<'_>, token: Token) {
        if let Some((at, _)) = self.own_claim(key, token) {
            self.free(at);
        }
    }

    pub(in crate::backend::memory) fn get(&self, key: Hashed<'_>) -> Option<Entry> {
        let slot = self.find(key).map(|at| &self.slots[at]).filter(|slot| self.now < slot.deadline)?;
        Some(match &slot.state {
            State::InProgress(claim) => Entry::InProgress { fingerprint: self.claims[*claim].fingerprint },
            State::Completed(record) => Entry::Completed(record.clone()),
        })
    }

    pub(in crate::backend::memory) fn remove(&mut self, key: Hashed<'_>) -> bool {
        let found = self.live(key);
        if let Some(at) = found {
            self.free(at);
        }
        found.is_some()
    }

    /// Looks at `key` for the waiter that has `ticket`, and registers `waker` while a run is in progress.
    ///
    /// One step under the lock: whatever ends the run comes either before it, and is seen, or after it, and wakes.
    pub(in crate::backend::memory) fn look(&mut self, key: Hashed<'_>, ticket: &mut Option<u64>, waker: Waker) -> Look {
        let Some((at, claim)) = self.live_claim(key) else {
            *ticket = None;
            self.leftovers.drop_waker(waker);
            return Look::Settled(self.get(key));
        };
        let ticket = *ticket.get_or_insert_with(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        let claim = &mut self.claims[claim];
        if let Some(replaced) = claim.waiters.insert(ticket, waker) {
            self.leftovers.drop_waker(replaced);
        }
        Look::InProgress { fingerprint: claim.fingerprint, deadline: self.slots[at].deadline }
    }

    /// Takes back what [`look`](Self::look) registered under `ticket`.
    pub(in crate::backend::memory) fn forget(&mut self, key: Hashed<'_>, ticket: u64) {
        if let Some((_, claim)) = self.live_claim(key)
            && let Some(waker) = self.claims[claim].waiters.remove(&ticket)
        {
            self.leftovers.drop_waker(waker);
        }
    }
}
