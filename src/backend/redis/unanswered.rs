//! [`Unanswered`]: claims that were sent, and whose answer has not come.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::Token;

/// The tokens of claims that were given up without an answer, each for the length of its lease.
///
/// After a stall thousands of them may lie before the server, which reads a little of each connection in turn. A release,
/// which comes on another connection, may overtake its claim and find nothing; then the claim would lock its key for a
/// lease that nobody uses. So the release of an unanswered claim is sent once more, some time later.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    tokens: Mutex<HashMap<Token, Instant>>,
    /// Read instead of the table by the many claims that are answered while there is none.
    any: AtomicBool,
}

/// A claim on its way. Dropped before the answer is in, it counts as unanswered.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    unanswered: &'a Unanswered,
    token: Token,
    lease: Duration,
    answered: bool,
}

impl Unanswered {
    pub(super) fn send(&self, token: Token, lease: Duration) -> Sent<'_> {
        Sent { unanswered: self, token, lease, answered: false }
    }

    /// Whether the claim of `token` may still be on its way. It is forgotten.
    pub(super) fn take(&self, token: Token) -> bool {
        // Relaxed: who gives a claim up and releases it later does so in this order.
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut tokens = self.lock();
        let found = tokens.remove(&token).is_some();
        self.any.store(!tokens.is_empty(), Ordering::Relaxed);
        found
    }

    fn insert(&self, token: Token, over: Instant) {
        let mut tokens = self.lock();
        if tokens.len() == tokens.capacity() {
            // Before it grows: those that nobody released have expired in Redis too.
            let now = Instant::now();
            tokens.retain(|_, over| now < *over);
        }
        tokens.insert(token, over);
        self.any.store(true, Ordering::Relaxed);
    }

    // Nothing that can panic runs under the lock, so a poisoned table is a whole one.
    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Instant>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sent<'_> {
    /// The answer has come, and with it those to earlier sendings of the token, if they ever arrive.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if self.answered {
            self.unanswered.take(self.token);
        } else {
            self.unanswered.insert(self.token, Instant::now() + self.lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_claim_that_is_given_up_is_unanswered_once() {
        let (unanswered, token) = (Unanswered::default(), Token::random());
        drop(unanswered.send(token, LEASE));
        assert!(!unanswered.take(Token::random()));
        assert!(unanswered.take(token));
        assert!(!unanswered.take(token));
    }

    #[test]
    fn a_claim_that_is_answered_when_it_is_sent_again_is_answered() {
        let (unanswered, token) = (Unanswered::default(), Token::random());
        drop(unanswered.send(token, LEASE));
        unanswered.send(token, LEASE).answered();
        assert!(!unanswered.take(token));
    }

    #[tokio::test(start_paused = true)]
    async fn claims_that_nobody_releases_do_not_pile_up() {
        let unanswered = Unanswered::default();
        for _ in 0..10_000 {
            drop(unanswered.send(Token::random(), LEASE));
            tokio::time::advance(LEASE / 100).await;
        }
        assert!(unanswered.lock().len() < 300, "{}", unanswered.lock().len());
    }
}
