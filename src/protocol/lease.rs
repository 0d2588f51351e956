//! [`Lease`]: a claim that this process holds, from the start of its run until the backend has answered its end.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Protocol,
    retry::{Patience, answered},
};
use crate::{Backend, BackendError, BackendErrorKind, Entry, Fingerprint, Key, Ownership, Record, Token};

/// A claim as its holder sees it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) key: Key,
    pub(crate) token: Token,
    pub(super) fingerprint: Fingerprint,
    pub(super) started: Instant,
    /// What the claim was made or is renewed for.
    pub(super) term: Duration,
    state: Mutex<State>,
    lost: AtomicBool,
}

#[derive(Debug)]
struct State {
    deadline: Instant,
    /// When the renewer has it in its order for.
    due: Option<Instant>,
    ended: bool,
}

impl Held {
    pub(super) fn new(key: Key, token: Token, fingerprint: Fingerprint, sent: Instant, term: Duration) -> Self {
        let state = State { deadline: private_deadline(sent, term), due: None, ended: false };
        Self { key, token, fingerprint, started: sent, term, state: Mutex::new(state), lost: AtomicBool::new(false) }
    }

    /// Until when this process may take the claim for its own, by its own clock.
    pub(super) fn deadline(&self) -> Instant {
        self.state().deadline
    }

    pub(super) fn is_entitled(&self, now: Instant) -> bool {
        now < self.deadline()
    }

    /// A renewal that was sent at `sent` has taken effect. Replies may come out of order.
    pub(super) fn extend(&self, sent: Instant) {
        let mut state = self.state();
        state.deadline = state.deadline.max(private_deadline(sent, self.term));
    }

    /// Notes its place in the renewer's order; `false` when the run has ended and has none.
    pub(super) fn set_due(&self, due: Option<Instant>) -> bool {
        let mut state = self.state();
        state.due = due;
        !state.ended
    }

    /// Ends the run, and returns its last place in the renewer's order.
    pub(super) fn end(&self) -> Option<Instant> {
        let mut state = self.state();
        state.ended = true;
        state.due.take()
    }

    // Nothing that can panic runs under the lock, so a poisoned state is a whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// A tenth of the term is kept back: clocks run at different speeds, and what is decided now takes effect later.
fn private_deadline(sent: Instant, term: Duration) -> Instant {
    sent + (term - term / 10)
}

/// A claim that this process holds. It is renewed until [`complete`](Self::complete) or [`release`](Self::release) is
/// *answered*, or until it is dropped: then the claim stays until its lease ends.
#[derive(Debug)]
pub struct Lease<B: Backend> {
    protocol: Arc<Protocol<B>>,
    held: Arc<Held>,
}

/// What became of a record.
#[derive(Debug)]
pub enum Completion {
    /// It is durable.
    Stored,
    /// The backend did not answer in time. Sending goes on in the background.
    Unanswered,
    /// The lease was lost, and another run of the same request has completed: this is its record.
    Superseded(Record),
    /// The lease was lost, and no record of this request can be shown.
    Lost,
}

/// How a run ends.
#[derive(Debug)]
enum Verdict {
    Complete(Record),
    Release,
}

impl<B: Backend> Lease<B> {
    pub(super) fn begin(protocol: &Arc<Protocol<B>>, held: Held) -> Self {
        let held = Arc::new(held);
        protocol.renew_after(&held, held.started);
        Self { protocol: Arc::clone(protocol), held }
    }

    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// The token that this run's claim carries.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn token(&self) -> Token {
        self.held.token
    }

    /// Whether the claim may have gone to somebody else.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// Stores `record`, which ends the run.
    ///
    /// Sent even when the lease is thought lost: an expired claim that nobody took over can still be completed.
    pub async fn complete(self, record: Record) -> Completion {
        let (protocol, held) = (Arc::clone(&self.protocol), Arc::clone(&self.held));
        match self.settle(Verdict::Complete(record)).await {
            Some(Ownership::Held) => Completion::Stored,
            Some(Ownership::Lost) => protocol.reread(&held).await,
            None => Completion::Unanswered,
        }
    }

    /// Gives the key back: the next request runs.
    pub async fn release(self) {
        let _ = self.settle(Verdict::Release).await;
    }

    /// Ends a run that has failed: gives the key back, or, at most once, keeps it for good.
    pub async fn fail(self) {
        if self.protocol.terms.at_most_once {
            let record = Record::outcome_unknown(&self.held.fingerprint);
            let _ = self.settle(Verdict::Complete(record)).await;
        } else {
            self.release().await;
        }
    }

    /// `None`: not answered in time. The lease lives on in the background, and renewals with it: a lost reply must not
    /// make the key run again.
    async fn settle(self, mut verdict: Verdict) -> Option<Ownership> {
        loop {
            match answered(self.protocol.step(), || self.send(&verdict)).await {
                Ok(ownership) => return Some(ownership),
                Err(error) if self.fall_back(&mut verdict, &error) => {}
                Err(error) if error.changed_nothing() => return None,
                Err(_) => break,
            }
        }
        tokio::spawn(self.settle_behind(verdict));
        None
    }

    async fn settle_behind(self, mut verdict: Verdict) {
        // Renewals move the deadline while this goes on.
        while self.held.is_entitled(Instant::now()) {
            let patience = Patience::behind(self.held.deadline(), self.protocol.terms.backend_timeout);
            match answered(patience, || self.send(&verdict)).await {
                Ok(_) => return,
                Err(error) if self.fall_back(&mut verdict, &error) => {}
                Err(error) if error.changed_nothing() => return,
                Err(_) => {}
            }
        }
    }

    /// A record that the backend can never keep becomes a tombstone: the run must not be repeated for its size.
    fn fall_back(&self, verdict: &mut Verdict, error: &BackendError) -> bool {
        let tombstone = Record::tombstone(&self.held.fingerprint);
        match verdict {
            Verdict::Complete(record) if error.kind() == BackendErrorKind::TooLarge && *record != tombstone => {
                *record = tombstone;
                true
            }
            _ => false,
        }
    }

    async fn send(&self, verdict: &Verdict) -> Result<Ownership, BackendError> {
        let Protocol { backend, terms, .. } = &*self.protocol;
        let Held { key, token, .. } = &*self.held;
        match verdict {
            Verdict::Complete(record) => backend.complete(key, *token, record, terms.retention).await,
            Verdict::Release => backend.release(key, *token).await.map(|()| Ownership::Held),
        }
    }
}

impl<B: Backend> Drop for Lease<B> {
    fn drop(&mut self) {
        self.protocol.live.remove(&self.held);
    }
}

impl<B: Backend> Protocol<B> {
    /// What a run that lost its lease may show: never its own answer, which nobody will see again.
    async fn reread(&self, held: &Held) -> Completion {
        match answered(self.step(), || self.backend.get(&held.key)).await {
            Ok(Some(Entry::Completed(record))) if record.fingerprint() == held.fingerprint => {
                Completion::Superseded(record)
            }
            _ => Completion::Lost,
        }
    }
}
