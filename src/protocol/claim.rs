//! The way to a run, or to the reason why there is none. Duplicates that meet in one process share one claim.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Lease, LiveRun, Protocol, Refusal,
    busy::{BusyKeys, Lead, News, Turn},
    census::Counted,
    refusal,
    retry::{Patience, answered},
};
use crate::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Token, observe::Stopwatch};

/// Claims are made again with a fresh token when their lease is over before the handler could start.
const ROUNDS: usize = 3;

/// What a claim has come to.
enum Claimed {
    Run(Arc<LiveRun>),
    /// Somebody else has the key.
    Taken(Entry),
}

impl<B: Backend> Protocol<B> {
    /// Claims `key` for a run of the request that `fingerprint` stands for.
    pub async fn claim(self: &Arc<Self>, key: &Key, fingerprint: &Fingerprint) -> Result<Lease<B>, Refusal> {
        let counted = Counted::new(&self.census);
        let lead = match &self.busy {
            // In memory of its own, as it is needed in front of distant backends only.
            Some(busy) => Some(Box::pin(self.meet(busy, *key, fingerprint)).await?),
            None => None,
        };
        let stopwatch = Stopwatch::start();
        let answer = self.ask(key, fingerprint).await;
        self.observer.claimed(stopwatch, key, answer.as_ref().err());
        match answer {
            Ok(Claimed::Run(run)) => {
                let lease = Lease::begin(self, run, counted);
                lead.into_iter().for_each(|lead| lead.hold(lease.run()));
                Ok(lease)
            }
            Ok(Claimed::Taken(entry)) => {
                lead.into_iter().for_each(|lead| lead.tell(News::Found(entry.clone())));
                Err(refusal(entry, fingerprint))
            }
            Err(error) => {
                lead.into_iter().for_each(|lead| lead.tell(News::Failed(error.kind())));
                Err(Refusal::Unavailable(error))
            }
        }
    }

    /// Shares the claim that is under way for `key`, and the knowledge of a run that holds it. Returns when there is
    /// neither: then this request has to claim the key.
    async fn meet<'a>(&self, busy: &'a BusyKeys, key: Key, fingerprint: &Fingerprint) -> Result<Lead<'a>, Refusal> {
        // Longer than the one that asks takes to give up: what it says then is for all.
        let patience = self.terms.backend_timeout * 5 / 4;
        let mut until = Instant::now() + patience;
        // The first claim that it meets was sent before, and has perhaps been executed before. A later one was not.
        let mut came_late = true;
        loop {
            let news = match busy.enter(key, patience) {
                Turn::Lead(lead) => return Ok(lead),
                Turn::Follow(news) => news,
            };
            match timeout_at(until, News::of_claim(news)).await {
                Ok(Some(news)) if !(came_late && news.can_change()) => return Err(news.refusal(fingerprint)),
                Err(_elapsed) if !came_late => return Err(Refusal::Unavailable(BackendError::timed_out())),
                _ if came_late => (came_late, until) = (false, Instant::now() + patience),
                _ => {}
            }
        }
    }

    /// Claims `key` in the backend.
    async fn ask(self: &Arc<Self>, key: &Key, fingerprint: &Fingerprint) -> Result<Claimed, BackendError> {
        // Sendings of an earlier token that may reach the backend after all and claim the key for nobody.
        let mut astray = false;
        for _ in 0..ROUNDS {
            let token = Token::random();
            // The length of the lease counts from the *first* sending of the token: the backend counts from when that
            // one arrived, which may have been long before the reply to a later one.
            let sent = Instant::now();
            let mut sendings = 0;
            let answer = answered(self.step(), || {
                sendings += 1;
                B::claim(&self.backend, key, token, fingerprint, self.terms.lease)
            });
            match answer.await {
                Ok(Claim::Acquired) => {}
                Ok(Claim::Completed(record)) => return Ok(Claimed::Taken(Entry::Completed(record))),
                Ok(Claim::InProgress { .. }) if astray => break,
                Ok(Claim::InProgress { fingerprint }) => return Ok(Claimed::Taken(Entry::InProgress { fingerprint })),
                // Of an earlier sending it says nothing.
                Err(error) if error.changed_nothing() && sendings == 1 => return Err(error),
                Err(error) => return Err(self.give_up(key, token, error)),
            }
            let entitled = if self.terms.at_most_once { self.extend(key, token).await } else { Ok(Some(sent)) };
            let run = match entitled {
                Ok(since) => since.map(|since| LiveRun::new(*key, token, *fingerprint, since, self.terms.term())),
                Err(error) => return Err(self.give_up(key, token, error)),
            };
            if let Some(run) = run.filter(|run| run.is_entitled(Instant::now())) {
                return Ok(Claimed::Run(Arc::new(run)));
            }
            // The lease may be over, so nothing may start on it. Left alone, it would refuse the next round.
            astray |= sendings > 1;
            if let Err(error) = answered(self.step(), || B::release(&self.backend, key, token)).await {
                return Err(self.give_up(key, token, error));
            }
        }
        Err(BackendError::timed_out())
    }

    /// Extends a claim to the retention before its run starts: at most once even a crash keeps the key. `None`: it is
    /// lost.
    async fn extend(&self, key: &Key, token: Token) -> Result<Option<Instant>, BackendError> {
        let sent = Instant::now();
        let extended = answered(self.step(), || B::renew(&self.backend, key, token, self.terms.retention)).await?;
        Ok((extended == Ownership::Held).then_some(sent))
    }

    /// Gives up a claim that may have been made: a release follows in the background, until it is answered or the
    /// claim has expired by itself. A claim that nobody uses must not lock its key.
    fn give_up(self: &Arc<Self>, key: &Key, token: Token, error: BackendError) -> BackendError {
        if let Ok(permit) = Arc::clone(&self.behind).try_acquire_owned() {
            let (protocol, key) = (Arc::clone(self), *key);
            let patience = Patience::behind(Instant::now() + self.terms.term(), self.terms.backend_timeout);
            tokio::spawn(async move {
                if answered(patience, || protocol.backend.release(&key, token)).await.is_ok() {
                    // Commands of one process may overtake each other: after a stall the release may have come before
                    // the claim. What a second one does not reach either, the lease ends.
                    sleep(protocol.terms.backend_timeout).await;
                    let _ = protocol.backend.release(&key, token).await;
                }
                drop(permit);
            });
        }
        error
    }
}
