//! [`Probe`]: what a test holds of an inner service.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::{oneshot, watch};

/// Watches and steers an [`InnerService`](super::InnerService) and all its clones.
#[derive(Clone, Default)]
pub struct Probe(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    next: VecDeque<Reaction>,
    always: Reaction,
    holding: bool,
    gate: VecDeque<oneshot::Sender<()>>,
    busy: bool,
    wakers: Vec<Waker>,
}

/// What one call comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reaction {
    /// The answer of the service.
    #[default]
    Answer,
    /// An [`InnerError`](super::InnerError).
    Fail,
    /// A panic of the handler, after the gate.
    Panic,
}

/// What has happened to an inner service and all its clones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls, those of instances that were not ready included.
    pub calls: usize,
    /// Clones made.
    pub clones: usize,
    /// Instances that are ready now, and have not been called since.
    pub ready: usize,
    /// Calls of instances that were not ready.
    pub violations: usize,
    /// Handler futures that exist now.
    pub live: usize,
    /// Handler futures that wait at the gate now.
    pub held: usize,
    /// Handler futures that were polled at all.
    pub started: usize,
    /// Handler futures that ended, with an answer or an error.
    pub finished: usize,
    /// Handler futures that were dropped before they ended, or never polled.
    pub dropped: usize,
    /// Handler futures that panicked.
    pub panicked: usize,
    /// Answers made: the runs that a client could tell apart.
    pub answers: usize,
}

impl Probe {
    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.state();
        Counts { held: state.gate.iter().filter(|waiting| !waiting.is_closed()).count(), ..state.counts }
    }

    /// Waits until the counts are as `wanted`, and returns them.
    pub async fn when(&self, wanted: impl Fn(&Counts) -> bool) -> Counts {
        let mut changed = self.0.changed.subscribe();
        loop {
            let counts = self.counts();
            if wanted(&counts) {
                return counts;
            }
            // The sender lives in `self`, so this cannot fail.
            let _ = changed.changed().await;
        }
    }

    /// Lets every handler wait, when it has read its request, until it is let go.
    pub fn hold(&self) {
        self.state().holding = true;
    }

    /// Waits until `handlers` of them wait at the gate at the same time.
    pub async fn arrived(&self, handlers: usize) {
        self.when(|counts| counts.held >= handlers).await;
    }

    /// Lets the handler that has waited longest go on. Later ones still have to wait.
    ///
    /// # Panics
    ///
    /// When none waits: see [`arrived`](Self::arrived).
    #[track_caller]
    pub fn open_one(&self) {
        let opened = {
            let mut state = self.state();
            std::iter::from_fn(|| state.gate.pop_front()).any(|waiting| waiting.send(()).is_ok())
        };
        assert!(opened, "no handler waits at the gate");
        self.changed();
    }

    /// Lets all handlers go on that wait now or would have to later.
    pub fn open_all(&self) {
        let waiting = {
            let mut state = self.state();
            state.holding = false;
            std::mem::take(&mut state.gate)
        };
        waiting.into_iter().for_each(|waiting| {
            // A handler that was dropped needs no gate.
            let _ = waiting.send(());
        });
        self.changed();
    }

    /// The next call comes to `reaction`. Several make a queue, in the order of the calls.
    pub fn next(&self, reaction: Reaction) {
        self.state().next.push_back(reaction);
    }

    /// Every call comes to `reaction`, once the queue of [`next`](Self::next) ones is empty.
    pub fn always(&self, reaction: Reaction) {
        self.state().always = reaction;
    }

    /// Makes `poll_ready` of every instance that is not ready pending, or ready again.
    pub fn set_busy(&self, busy: bool) {
        let wakers = {
            let mut state = self.state();
            state.busy = busy;
            if busy { Vec::new() } else { std::mem::take(&mut state.wakers) }
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.busy {
            return Poll::Ready(());
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    /// Counts a call of an instance that is `ready` or not, and decides what it comes to.
    #[track_caller]
    pub(super) fn enter(&self, ready: bool) -> Reaction {
        self.count(|counts| {
            counts.calls += 1;
            if ready { counts.ready -= 1 } else { counts.violations += 1 }
        });
        assert!(
            ready,
            "InnerService was called without being ready: this very instance must have answered poll_ready with Ready \
             since its last call (a clone is another instance)"
        );
        let mut state = self.state();
        state.next.pop_front().unwrap_or(state.always)
    }

    pub(super) async fn pass_gate(&self) {
        let opened = {
            let mut state = self.state();
            if !state.holding {
                return;
            }
            let (opener, opened) = oneshot::channel();
            state.gate.push_back(opener);
            opened
        };
        self.changed();
        // The opener is dropped only after sending, or with the probe, whose clone is here.
        let _ = opened.await;
    }

    pub(super) fn running(&self) -> Running {
        self.count(|counts| counts.live += 1);
        Running { probe: self.clone(), finished: false }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.state().counts);
        self.changed();
    }

    fn changed(&self) {
        self.0.changed.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.counts()).finish()
    }
}

/// Counts what becomes of one handler future.
pub(super) struct Running {
    probe: Probe,
    finished: bool,
}

impl Running {
    pub(super) fn start(&self) {
        self.probe.count(|counts| counts.started += 1);
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let finished = self.finished;
        self.probe.count(|counts| {
            counts.live -= 1;
            match (finished, std::thread::panicking()) {
                (true, _) => counts.finished += 1,
                (false, true) => counts.panicked += 1,
                (false, false) => counts.dropped += 1,
            }
        });
    }
}
