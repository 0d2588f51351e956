//! The one task per layer and runtime that renews the leases of live runs.
//!
//! Not a timer or a task per run: a handler that blocks its thread would starve a heartbeat in its own task, and runs
//! that end before a third of their lease, nearly all of them, cost nothing here.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{
    Protocol,
    live::{LiveRun, LiveRuns},
    retry::{Patience, answered},
    runtimes::Runtimes,
    watchdog::{Leash, spawn_watched},
};
use crate::{Backend, Ownership, panics::catch_panic};

impl<B: Backend> Protocol<B> {
    /// Renews `run` a third of its term after `sent`, and so on until it is removed from the live runs.
    pub(super) fn renew_after(self: &Arc<Self>, live: &Arc<LiveRuns>, run: &Arc<LiveRun>, sent: Instant) {
        if live.insert(run, sent + run.term / 3) {
            let (runtimes, live, protocol) = (Arc::clone(&self.runtimes), Arc::clone(live), Arc::downgrade(self));
            let renewer = move |leash| Renewer { runtimes, live, _leash: leash }.work(protocol);
            spawn_watched(self.terms.term() / 12, renewer);
        }
    }

    /// Sends one renewal until it is answered or the lease is over.
    async fn renew(self: Arc<Self>, live: Arc<LiveRuns>, run: Arc<LiveRun>) {
        if run.is_committed() {
            return;
        }
        let mut sent = Instant::now();
        // After a stall the lease may be over: a renewal would be sent and given up in the same instant.
        if sent >= run.started + self.terms.max_run || !run.is_entitled(sent) {
            return self.lose(&run);
        }
        let patience = Patience::behind(run.deadline(), self.terms.backend_timeout.min(run.term / 3));
        let answer = answered(patience, || {
            sent = Instant::now();
            self.backend.renew(&run.key, run.token, run.term)
        });
        // A backend that panics has not answered. Otherwise nobody would know that this run is not renewed any more.
        match catch_panic(|| answer).await {
            Ok(Ok(Ownership::Held)) => {
                run.extend(sent);
                self.renew_after(&live, &run, sent);
            }
            Ok(Ok(Ownership::Lost) | Err(_)) | Err(_) => self.lose(&run),
        }
    }

    /// Notes that the lease is lost. Duplicates are no longer told that this process holds the key.
    pub(super) fn lose(&self, run: &Arc<LiveRun>) {
        if run.lose() {
            self.observer.lease_lost(&run.key);
        }
        drop(self.part(run));
    }
}

/// The renewer's task ends with the layer, or with the runtime that it was spawned on. Then another one may start.
struct Renewer {
    runtimes: Arc<Runtimes>,
    live: Arc<LiveRuns>,
    _leash: Option<Leash>,
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.live.renewer_ended();
        self.runtimes.leave(&self.live);
    }
}

impl Renewer {
    /// Holds the protocol only while it works, so that a layer can be dropped while its renewer waits.
    async fn work<B: Backend>(self, protocol: Weak<Protocol<B>>) {
        while let Some(protocol) = protocol.upgrade() {
            let now = Instant::now();
            for run in self.live.take_due(now) {
                tokio::spawn(Arc::clone(&protocol).renew(Arc::clone(&self.live), run));
            }
            let look_again = now + protocol.terms.term() / 3;
            drop(protocol);
            self.live.wait(look_again).await;
        }
    }
}
