//! The protocol between a run and its backend, free of HTTP: claim, renew, complete or release.
//!
//! The layer, queue consumers and the tests' model walks all drive this code. Its rules are those of the decision
//! record `docs/decisions/0001-protocol.md`; each of them is there because leaving it out lets a handler run twice, or
//! a key stay locked, after a handful of faults.

mod census;
mod lease;
mod live;
mod renewer;
mod retry;
mod wait;
mod watchdog;
mod word;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::Instant};

pub use self::lease::{Completion, Lease};
pub(crate) use self::{census::Census, live::LiveRun, word::Word};
use self::{
    census::Counted,
    live::LiveRuns,
    retry::{Patience, answered},
};
use crate::{Backend, BackendError, Claim, Fingerprint, Key, Ownership, Record, Token, fingerprint::Difference};

/// Claims are made again with a fresh token when their lease is over before the handler could start.
const ROUNDS: usize = 3;

/// Releases that are sent behind a refused request, at most, per layer. Beyond it the lease has to end the claim.
const BEHIND: usize = 1024;

/// The lengths of time that a protocol works with.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long a claim lives unless renewed.
    pub lease: Duration,
    /// How long a record lives.
    pub retention: Duration,
    /// How long a run is renewed.
    pub max_run: Duration,
    /// How long a request waits for the backend in one step.
    pub backend_timeout: Duration,
    /// Whether a claim is extended to the retention before its run starts.
    pub at_most_once: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            retention: Duration::from_secs(24 * 60 * 60),
            max_run: Duration::from_secs(60 * 60),
            backend_timeout: Duration::from_secs(1),
            at_most_once: false,
        }
    }
}

impl Terms {
    /// What a claim is extended to by each renewal. At most once: the retention, so that even a crash keeps the key.
    fn term(&self) -> Duration {
        if self.at_most_once { self.retention } else { self.lease }
    }
}

/// One backend, and the runs of this process that hold claims in it.
#[derive(Debug)]
pub struct Protocol<B> {
    backend: Arc<B>,
    terms: Terms,
    live: Arc<LiveRuns>,
    census: Arc<Census>,
    behind: Arc<Semaphore>,
}

/// Why a request does not run.
#[derive(Debug)]
pub enum Refusal {
    /// The same request has run.
    Replay(Record),
    /// The same request is running.
    InProgress,
    /// The key belongs to another request.
    Mismatch,
    /// The key belongs to the same request, sent with other credentials.
    CredentialsDiffer,
    /// The backend did not answer. Nothing runs.
    Unavailable(BackendError),
}

impl<B: Backend> Protocol<B> {
    /// A protocol over `backend` without any run.
    pub fn new(backend: Arc<B>, terms: Terms) -> Self {
        Self { backend, terms, live: Arc::default(), census: Arc::default(), behind: Arc::new(Semaphore::new(BEHIND)) }
    }

    pub(crate) fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn census(&self) -> &Arc<Census> {
        &self.census
    }

    /// Claims `key` for a run of the request that `fingerprint` stands for.
    pub async fn claim(self: &Arc<Self>, key: Key, fingerprint: Fingerprint) -> Result<Lease<B>, Refusal> {
        let counted = Counted::new(&self.census);
        // Sendings of an earlier token that may reach the backend after all and claim the key for nobody.
        let mut astray = false;
        for _ in 0..ROUNDS {
            let token = Token::random();
            let sent = Instant::now();
            let mut sendings = 0;
            let answer = answered(self.step(), || {
                sendings += 1;
                self.backend.claim(&key, token, &fingerprint, self.terms.lease)
            });
            match answer.await {
                Ok(Claim::Acquired) => match self.entitle(key, token, fingerprint, sent).await {
                    Ok(Some(run)) => return Ok(Lease::begin(self, run, counted)),
                    // The lease may be over, so nothing may start on it. Left alone, it would refuse the next round.
                    Ok(None) => {
                        astray |= sendings > 1;
                        if let Err(error) = answered(self.step(), || self.backend.release(&key, token)).await {
                            return Err(self.give_up(key, token, error));
                        }
                    }
                    Err(error) => return Err(self.give_up(key, token, error)),
                },
                Ok(Claim::Completed(record)) => {
                    return Err(judge(&record.fingerprint(), &fingerprint, Refusal::Replay(record)));
                }
                Ok(Claim::InProgress { fingerprint: holder }) if !astray => {
                    return Err(judge(&holder, &fingerprint, Refusal::InProgress));
                }
                Ok(Claim::InProgress { .. }) => break,
                Err(error) if error.changed_nothing() => return Err(Refusal::Unavailable(error)),
                Err(error) => return Err(self.give_up(key, token, error)),
            }
        }
        Err(Refusal::Unavailable(BackendError::timed_out()))
    }

    /// The run that an acquired claim entitles to, unless its lease may be over already.
    ///
    /// Its length counts from the *first* sending of the token: the backend counts from when that one arrived, which
    /// may have been long before the reply to a later one.
    async fn entitle(
        &self,
        key: Key,
        token: Token,
        fingerprint: Fingerprint,
        mut sent: Instant,
    ) -> Result<Option<LiveRun>, BackendError> {
        if self.terms.at_most_once {
            sent = Instant::now();
            let extended = answered(self.step(), || self.backend.renew(&key, token, self.terms.retention)).await?;
            if extended == Ownership::Lost {
                return Ok(None);
            }
        }
        let run = LiveRun::new(key, token, fingerprint, sent, self.terms.term());
        Ok(run.is_entitled(Instant::now()).then_some(run))
    }

    /// Gives up a claim that may have been made: a release follows in the background, until it is answered or the
    /// claim has expired by itself. A claim that nobody uses must not lock its key.
    fn give_up(self: &Arc<Self>, key: Key, token: Token, error: BackendError) -> Refusal {
        if let Ok(permit) = Arc::clone(&self.behind).try_acquire_owned() {
            let protocol = Arc::clone(self);
            let patience = Patience::behind(Instant::now() + self.terms.term(), self.terms.backend_timeout);
            tokio::spawn(async move {
                let _ = answered(patience, || protocol.backend.release(&key, token)).await;
                drop(permit);
            });
        }
        Refusal::Unavailable(error)
    }

    /// The patience of a step that a client waits for.
    fn step(&self) -> Patience {
        Patience::step(self.terms.backend_timeout)
    }
}

/// `same`, unless the key belongs to another request.
fn judge(theirs: &Fingerprint, ours: &Fingerprint, same: Refusal) -> Refusal {
    match theirs.difference(ours) {
        None => same,
        Some(Difference::Request) => Refusal::Mismatch,
        Some(Difference::Credentials) => Refusal::CredentialsDiffer,
    }
}

impl<B> Drop for Protocol<B> {
    fn drop(&mut self) {
        self.live.wake_renewer();
    }
}
