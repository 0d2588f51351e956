//! [`Leftovers`]: what a command removed, to be dropped and woken outside the lock.

use std::{collections::BTreeMap, task::Waker};

use crate::Record;

/// The wakers of those who wait for one claim to end, by ticket.
pub(super) type Waiters = BTreeMap<u64, Waker>;

/// What a command removed.
///
/// Freeing a large record takes time that nobody should wait for. Waking and dropping a waker runs the code of an
/// executor, which may drop a task, and with it a waiter that needs the same lock.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    record: Option<Record>,
    more_records: Vec<Record>,
    woken: Vec<Waiters>,
    dropped: Option<Waker>,
}

impl Leftovers {
    pub(super) fn drop_record(&mut self, record: Record) {
        // Mostly there is but one, which then costs no allocation.
        self.more_records.extend(self.record.replace(record));
    }

    pub(super) fn drop_waker(&mut self, waker: Waker) {
        self.dropped = Some(waker);
    }

    pub(super) fn wake(&mut self, waiters: Waiters) {
        if !waiters.is_empty() {
            self.woken.push(waiters);
        }
    }

    /// Wakes who is to be woken, and drops the rest. To be called without the lock.
    pub(super) fn settle(self) {
        for waiters in self.woken {
            waiters.into_values().for_each(Waker::wake);
        }
    }
}
