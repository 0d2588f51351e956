//! [`Leftovers`]: what a command removed, to be dropped and woken outside the lock.

use std::{collections::BTreeMap, task::Waker};

use crate::Record;

/// The wakers of those who wait for one claim to end, by ticket.
pub(super) type Waiters = BTreeMap<u64, Waker>;

/// What a command removed. Whoever locks drops this after unlocking, and with it what is in here; who waits is woken.
///
/// Freeing a large record takes time that nobody should wait for. Waking and dropping a waker runs the code of an
/// executor, which may drop a task, and with it a waiter that needs the same lock.
///
/// Mostly there is nothing, or one thing, which then costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Option<(Leftover, Vec<Leftover>)>);

#[derive(Debug)]
#[expect(dead_code, reason = "what is in here is only dropped")]
enum Leftover {
    Record(Record),
    Woken(Woken),
    Waker(Waker),
}

impl Leftovers {
    pub(super) fn drop_record(&mut self, record: Record) {
        self.add(Leftover::Record(record));
    }

    pub(super) fn drop_waker(&mut self, waker: Waker) {
        self.add(Leftover::Waker(waker));
    }

    pub(super) fn wake(&mut self, waiters: Waiters) {
        self.add(Leftover::Woken(Woken(waiters)));
    }

    fn add(&mut self, leftover: Leftover) {
        match &mut self.0 {
            None => self.0 = Some((leftover, Vec::new())),
            Some((_, others)) => others.push(leftover),
        }
    }
}

/// Those who are woken when this is dropped.
#[derive(Debug)]
struct Woken(Waiters);

impl Drop for Woken {
    fn drop(&mut self) {
        std::mem::take(&mut self.0).into_values().for_each(Waker::wake);
    }
}
