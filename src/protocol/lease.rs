//! [`Lease`]: a claim that this process holds, from the start of its run until the backend has answered its end.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    LiveRun, Protocol, Word,
    busy::News,
    census::Counted,
    live::LiveRuns,
    retry::{Patience, answered},
};
use crate::{
    Backend, BackendError, BackendErrorKind, Entry, Fingerprint, Ownership, Record,
    observe::{Observer, Stopwatch, in_span},
};

/// A claim that this process holds. It is renewed until [`complete`](Self::complete) or [`release`](Self::release) is
/// *answered*, or until it is dropped: then the claim stays until its lease ends.
#[derive(Debug)]
pub struct Lease<B: Backend> {
    protocol: Arc<Protocol<B>>,
    run: Arc<LiveRun>,
    /// Those that are renewed together with it.
    live: Arc<LiveRuns>,
    /// How long its record lives.
    retention: Duration,
    _counted: Counted,
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

/// What became of sending a verdict.
enum Settled {
    Answered(Ownership),
    /// Not in time.
    Unanswered(Verdict),
    /// The backend will not answer otherwise, or must not be asked.
    GivenUp,
}

impl<B: Backend> Lease<B> {
    pub(super) fn begin(protocol: &Arc<Protocol<B>>, run: Arc<LiveRun>, counted: Counted) -> Self {
        let live = protocol.runtimes.here();
        protocol.observer.run_begins();
        protocol.renew_after(&live, &run, run.started);
        Self { protocol: Arc::clone(protocol), run, live, retention: protocol.terms.retention, _counted: counted }
    }

    /// Lets its record live for `retention`, where that is not the protocol's.
    pub(crate) fn keep_for(mut self, retention: Option<Duration>) -> Self {
        self.retention = retention.unwrap_or(self.retention);
        self
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn retention(&self) -> Duration {
        self.retention
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.run.fingerprint
    }

    /// Whether the key is kept when the run fails: as the handler has said; at most once it is. `None`: neither says, and
    /// it depends on how the run fails.
    pub(crate) fn keeps_failure(&self) -> Option<bool> {
        let word = self.run.word().map(|word| word != Word::Release);
        word.or(self.protocol.terms.at_most_once.then_some(true))
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.protocol.observer
    }

    pub(crate) fn run(&self) -> &Arc<LiveRun> {
        &self.run
    }

    /// The token that this run's claim carries.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn token(&self) -> crate::Token {
        self.run.token
    }

    /// Whether the claim may have gone to somebody else.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.run.is_lost()
    }

    /// Stores `record`, which ends the run.
    ///
    /// It is sent even when the lease seems lost: an expired claim that nobody has taken over can still be completed.
    pub async fn complete(self, record: Record) -> Completion {
        let (stopwatch, size) = (Stopwatch::start(), record.size());
        let settled = self.settle(Verdict::Complete(record)).await;
        if !self.run.is_committed() {
            self.observer().completed(stopwatch, size);
        }
        match settled {
            Settled::Answered(Ownership::Held) => Completion::Stored,
            Settled::Answered(Ownership::Lost) => {
                let (protocol, run) = (Arc::clone(&self.protocol), Arc::clone(&self.run));
                drop(self);
                Box::pin(protocol.reread(&run)).await
            }
            Settled::Unanswered(verdict) => {
                self.go_on_behind(verdict);
                Completion::Unanswered
            }
            Settled::GivenUp => Completion::Unanswered,
        }
    }

    /// Gives the key back: the next request runs.
    pub async fn release(self) {
        self.end(Verdict::Release).await;
    }

    /// Ends a run that has failed: gives the key back, or keeps it if the handler said so, or at most once.
    pub async fn fail(self) {
        let verdict = match self.keeps_failure() {
            Some(true) => Verdict::Complete(Record::outcome_unknown(&self.run.fingerprint)),
            _ => Verdict::Release,
        };
        self.end(verdict).await;
    }

    async fn end(self, verdict: Verdict) {
        if let Settled::Unanswered(verdict) = self.settle(verdict).await {
            self.go_on_behind(verdict);
        }
    }

    /// Sends a verdict. Afterwards duplicates ask the backend, however the run has ended.
    async fn settle(&self, mut verdict: Verdict) -> Settled {
        if let Some(record) = self.run.committed() {
            // Nothing is left to send, whatever the handler has done since.
            self.tell(record.clone());
            return Settled::Answered(Ownership::Held);
        }
        if self.run.is_doubted() && matches!(verdict, Verdict::Complete(_)) {
            // The handler's own record may be there already, and would stay.
            self.observer().unsettled(&self.run.key);
            return Settled::GivenUp;
        }
        // A run that has sent its release no longer counts as the holder of the key.
        let _told_when_answered = matches!(verdict, Verdict::Release).then(|| self.protocol.part(&self.run));
        loop {
            match answered(self.protocol.step(), || self.send(&verdict)).await {
                Ok(ownership) => {
                    if let (Verdict::Complete(record), Ownership::Held) = (verdict, ownership) {
                        self.tell(record);
                    }
                    return Settled::Answered(ownership);
                }
                Err(error) if self.fall_back(&mut verdict, &error) => {}
                Err(error) => {
                    self.observer().unanswered(&self.run.key, &error);
                    if error.changed_nothing() {
                        self.observer().unsettled(&self.run.key);
                        return Settled::GivenUp;
                    }
                    drop(self.protocol.part(&self.run));
                    return Settled::Unanswered(verdict);
                }
            }
        }
    }

    /// Hands the record of this run to those that wait for its end in this process.
    fn tell(&self, record: Record) {
        if let Some(news) = self.protocol.part(&self.run) {
            news.send_replace(News::Found(Entry::Completed(record)));
        }
    }

    /// Goes on sending `verdict` in the background. The lease lives on and is renewed meanwhile: a lost reply must not
    /// make the key run again.
    fn go_on_behind(self, verdict: Verdict) {
        tokio::spawn(in_span(self.settle_behind(verdict)));
    }

    async fn settle_behind(self, mut verdict: Verdict) {
        // Renewals move the deadline meanwhile.
        while self.run.is_entitled(Instant::now()) {
            let patience = Patience::behind(self.run.deadline(), self.protocol.terms.backend_timeout);
            match answered(patience, || self.send(&verdict)).await {
                Ok(_) => return,
                Err(error) if self.fall_back(&mut verdict, &error) => {}
                Err(error) if error.changed_nothing() => break,
                Err(_) => {}
            }
        }
        self.observer().unsettled(&self.run.key);
    }

    /// A record that is too large for the backend becomes a tombstone: the run must not be repeated because of its size.
    fn fall_back(&self, verdict: &mut Verdict, error: &BackendError) -> bool {
        let tombstone = Record::tombstone(&self.run.fingerprint);
        match verdict {
            Verdict::Complete(record) if error.kind() == BackendErrorKind::TooLarge && *record != tombstone => {
                *record = tombstone;
                true
            }
            _ => false,
        }
    }

    async fn send(&self, verdict: &Verdict) -> Result<Ownership, BackendError> {
        let backend: &B = &self.protocol.backend;
        let LiveRun { key, token, .. } = &*self.run;
        match verdict {
            Verdict::Complete(record) => {
                let ownership = backend.complete(key, *token, record, self.retention).await?;
                if ownership == Ownership::Lost {
                    self.protocol.lose(&self.run);
                }
                Ok(ownership)
            }
            Verdict::Release => backend.release(key, *token).await.map(|()| Ownership::Held),
        }
    }
}

impl<B: Backend> Drop for Lease<B> {
    fn drop(&mut self) {
        self.observer().run_ends();
        self.live.remove(&self.run);
        drop(self.protocol.part(&self.run));
    }
}

impl<B: Backend> Protocol<B> {
    /// What a run that lost its lease may answer: never its own response, which no duplicate would get.
    async fn reread(&self, run: &LiveRun) -> Completion {
        match answered(self.step(), || self.backend.get(&run.key)).await {
            Ok(Some(Entry::Completed(record))) if record.fingerprint() == run.fingerprint => {
                Completion::Superseded(record)
            }
            _ => Completion::Lost,
        }
    }
}
