//! [`Waiter`]: somebody who waits for a run to end.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, Waker, ready},
};

use tokio::time::{Instant, sleep_until};

use super::{shard::Look, store::Store};
use crate::{Entry, Key};

/// Waits for the run under a key to end. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    store: &'a Store,
    key: &'a Key,
    ticket: Option<u64>,
}

impl<'a> Waiter<'a> {
    pub(super) const fn new(store: &'a Store, key: &'a Key) -> Self {
        Self { store, key, ticket: None }
    }

    /// What is stored now. While a run is in progress, `waker` is woken when it ends.
    pub(super) fn look(&mut self, waker: &Waker, now: Instant) -> Look {
        // Cloned here because it is the executor's code, which must not run under the lock.
        self.store.look(&mut self.ticket, self.key, waker.clone(), now)
    }

    /// Waits until no run is in progress, or until `deadline`.
    pub(super) async fn wait(mut self, deadline: Instant) -> Option<Entry> {
        let mut sleep = pin!(sleep_until(deadline));
        poll_fn(|context| {
            loop {
                let now = Instant::now();
                let (fingerprint, until) = match self.look(context.waker(), now) {
                    Look::Settled(entry) => return Poll::Ready(entry),
                    Look::InProgress { fingerprint, deadline } => (fingerprint, deadline),
                };
                if now >= deadline {
                    return Poll::Ready(Some(Entry::InProgress { fingerprint }));
                }
                // Nobody wakes at the end of a lease, so this has to sleep no longer than that, and look again: the
                // claim may have been renewed.
                let until = self.store.clock().instant(until).map_or(deadline, |until| until.min(deadline));
                if sleep.deadline() != until {
                    sleep.as_mut().reset(until);
                }
                ready!(sleep.as_mut().poll(context));
            }
        })
        .await
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.store.forget(ticket, self.key);
        }
    }
}
