//! [`Trial`]: one check at work on a backend. It sends the commands, keeps a protocol of them and reads the answers.

use std::{
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    cast::{Cast, Member},
    law::{Broken, Verdict, expect_on},
    model::{Seen, Step, Value, apply},
};
use crate::{Backend, BackendError, Claim, Entry, Key, Ownership, Record};

/// A lease that no check outlives.
pub(super) const LONG: Duration = Duration::from_secs(300);

/// How long a command may take before it counts as unanswered.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// So many lines of protocol are shown from the beginning and from the end.
const SHOWN: usize = 20;

pub(super) struct Trial<B> {
    backend: Arc<B>,
    /// A lease or retention short enough to be waited for.
    pub(super) short: Duration,
    protocol: Option<Arc<Mutex<Vec<String>>>>,
}

impl<B: Backend> Trial<B> {
    pub(super) fn new(backend: Arc<B>, short: Duration) -> Self {
        Self { backend, short, protocol: Some(Arc::default()) }
    }

    /// The same trial for commands too many to be written down one by one.
    pub(super) fn silent(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), short: self.short, protocol: None }
    }

    pub(super) fn note(&self, line: impl Into<String>) {
        if let Some(protocol) = &self.protocol {
            protocol.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
        }
    }

    /// What was done so far, shortened in the middle.
    pub(super) fn protocol(&self) -> Vec<String> {
        let Some(protocol) = &self.protocol else { return Vec::new() };
        let mut lines = protocol.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if lines.len() > 2 * SHOWN {
            let dots = format!(".. {} more ..", lines.len() - 2 * SHOWN);
            lines.splice(SHOWN..lines.len() - SHOWN, [dots]);
        }
        lines
    }

    /// `count` parties with names, tokens and fingerprints of their own.
    pub(super) fn cast(&self, count: usize) -> Arc<Cast> {
        let cast = Cast::new(count);
        // In a crowd nobody is followed by name.
        for member in cast.members.iter().filter(|_| count <= SHOWN / 4) {
            self.note(format!("{} has {:?} and {:?}", member.name, member.token, member.fingerprint));
        }
        Arc::new(cast)
    }

    pub(super) async fn claim(&self, key: Key, by: &Member, lease: Duration) -> Verdict<Claim> {
        let command = || format!("claim({key:?}, {}, lease {lease:?})", by.name);
        self.answered(command, self.backend.claim(&key, by.token, &by.fingerprint, lease)).await
    }

    pub(super) async fn renew(&self, key: Key, by: &Member, lease: Duration) -> Verdict<Ownership> {
        let command = || format!("renew({key:?}, {}, lease {lease:?})", by.name);
        self.answered(command, self.backend.renew(&key, by.token, lease)).await
    }

    pub(super) async fn complete(
        &self,
        key: Key,
        by: &Member,
        record: &Record,
        retention: Duration,
    ) -> Verdict<Ownership> {
        let command = || format!("complete({key:?}, {}, {} bytes, retention {retention:?})", by.name, record.size());
        self.answered(command, self.backend.complete(&key, by.token, record, retention)).await
    }

    /// Like [`complete`](Self::complete), but the backend's errors are handed back.
    pub(super) async fn try_complete(
        &self,
        key: Key,
        by: &Member,
        record: &Record,
    ) -> Verdict<Result<Ownership, BackendError>> {
        let command = || format!("complete({key:?}, {}, {} bytes, retention {LONG:?})", by.name, record.size());
        self.answered(command, async { Ok(self.backend.complete(&key, by.token, record, LONG).await) }).await
    }

    pub(super) async fn release(&self, key: Key, by: &Member) -> Verdict {
        let command = || format!("release({key:?}, {})", by.name);
        self.answered(command, self.backend.release(&key, by.token)).await
    }

    pub(super) async fn get(&self, key: Key) -> Verdict<Option<Entry>> {
        self.answered(|| format!("get({key:?})"), self.backend.get(&key)).await
    }

    pub(super) async fn remove(&self, key: Key) -> Verdict<bool> {
        self.answered(|| format!("remove({key:?})"), self.backend.remove(&key)).await
    }

    /// A wait until `ahead` from now.
    pub(super) async fn wait(&self, key: Key, ahead: Duration) -> Verdict<Option<Entry>> {
        let command = || format!("wait({key:?}, until {ahead:?} later)");
        // Nobody waits on purpose for longer than this, and on a slow machine it is longer than `PATIENCE`.
        let patience = PATIENCE + ahead.min(self.short * 3);
        self.answered_within(patience, command, self.backend.wait(&key, Instant::now() + ahead)).await
    }

    /// Sends the command that `step` stands for. Leases and retentions last for `life`.
    pub(super) async fn play(&self, key: Key, cast: &Cast, step: Step, life: Duration) -> Verdict<Seen> {
        match step {
            Step::Claim(me) => cast.of_claim(&self.claim(key, cast.member(me), life).await?),
            Step::Renew(me) => Ok(of_ownership(self.renew(key, cast.member(me), life).await?)),
            Step::Complete(me, version) => {
                let record = cast.record(me, version);
                Ok(of_ownership(self.complete(key, cast.member(me), &record, life).await?))
            }
            Step::Release(me) => self.release(key, cast.member(me)).await.map(|()| Seen::Released),
            Step::Get => cast.of_entry(self.get(key).await?.as_ref()),
            Step::Remove => self.remove(key).await.map(Seen::Removed),
        }
    }

    /// Plays `steps` on `key` and fails where the answer is not the one beside the step.
    pub(super) async fn expect_each(&self, key: Key, cast: &Cast, steps: &[(Step, Seen)], life: Duration) -> Verdict {
        let mut value = Value::Absent;
        for &(step, expected) in steps {
            expect_on(value, step, self.play(key, cast, step, life).await?, expected)?;
            value = apply(value, step).1;
        }
        Ok(())
    }

    async fn answered<T: Debug>(
        &self,
        command: impl Fn() -> String,
        answer: impl Future<Output = Result<T, BackendError>>,
    ) -> Verdict<T> {
        self.answered_within(PATIENCE, command, answer).await
    }

    async fn answered_within<T: Debug>(
        &self,
        patience: Duration,
        command: impl Fn() -> String,
        answer: impl Future<Output = Result<T, BackendError>>,
    ) -> Verdict<T> {
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => {
                if self.protocol.is_some() {
                    self.note(format!("{} -> {answer:?}", command()));
                }
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.note(format!("{} -> {error}", command()));
                Err(Broken::error(&error))
            }
            Err(_) => {
                self.note(format!("{} -> no answer", command()));
                Err(Broken::Unanswered(command()))
            }
        }
    }

    /// Sleeps until everything that was stored for `short` is over, clocks of other machines included.
    pub(super) async fn outlast_short(&self) {
        let pause = self.short * 2;
        tokio::time::sleep(pause).await;
        self.note(format!("{pause:?} pass"));
    }

    /// Gives up the attempt when what was stored for `short` at `since` may be over by now.
    pub(super) fn in_time(&self, since: Instant) -> Verdict {
        if since.elapsed() < self.short { Ok(()) } else { Err(Broken::TooSlow) }
    }

    /// Runs `task` for each number below `count`, all started at one moment, and returns their results in order.
    pub(super) async fn together<T, F>(&self, count: usize, task: impl Fn(Self, usize) -> F) -> Verdict<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Verdict<T>> + Send + 'static,
    {
        let start = Arc::new(Barrier::new(count));
        let mut tasks = JoinSet::new();
        for i in 0..count {
            let (start, task) = (Arc::clone(&start), task(self.silent(), i));
            tasks.spawn(async move {
                start.wait().await;
                task.await.map(|result| (i, result))
            });
        }
        let mut results = Vec::with_capacity(count);
        while let Some(joined) = tasks.join_next().await {
            // A panic inside the backend is reported as what it is.
            results.push(joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?);
        }
        results.sort_by_key(|&(i, _)| i);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

/// A key that nobody has used before.
pub(super) fn fresh_key() -> Key {
    Key::from_bytes(rand::random())
}

fn of_ownership(answer: Ownership) -> Seen {
    match answer {
        Ownership::Held => Seen::Held,
        Ownership::Lost => Seen::Lost,
    }
}
