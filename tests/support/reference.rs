//! [`Reference`]: the command table in a map under one lock, and [`Bug`]s to put into it.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    task::yield_now,
    time::{Instant, sleep, timeout_at},
};
use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

/// One way of getting a backend wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    None,
    CheckThenInsert,
    CheckThenReplaceExpired,
    OwnTokenNotRecognised,
    UnfencedRenew,
    UnfencedComplete,
    UnfencedRelease,
    ExpiryForgotten,
    OwnClaimProlongs,
    RecordKeepsDeadlineOfClaim,
    TimerPerClaim,
    OverwritesItsRecord,
    ReleaseDeletesRecords,
    TruncatesRecords,
    ShortKeys,
    ShortTokens,
    WrongFingerprint,
    LeavesLock,
    OneQueue,
    RemoveLies,
    GetTakes,
    WaitMissesRelease,
    WaitMissesExpiry,
    WaitTrustsFirstDeadline,
    WaitLooksThenRegisters,
    WakesOneWaiter,
    WaitHoldsConnection,
}

#[derive(Debug)]
pub struct Reference {
    bug: Bug,
    values: Arc<Mutex<HashMap<Vec<u8>, Value>>>,
    waiters: Mutex<HashMap<Key, Arc<Notify>>>,
    locked: Mutex<HashSet<Key>>,
    queue: Semaphore,
    connections: Semaphore,
}

#[derive(Debug, Clone)]
struct Value {
    token: Token,
    fingerprint: Fingerprint,
    record: Option<Record>,
    deadline: Instant,
}

impl Value {
    fn entry(self) -> Entry {
        let fingerprint = self.fingerprint;
        self.record.map_or(Entry::InProgress { fingerprint }, Entry::Completed)
    }

    fn is_claim_of(&self, token: Token) -> bool {
        self.record.is_none() && self.token == token
    }
}

impl Default for Reference {
    fn default() -> Self {
        Self::with(Bug::None)
    }
}

impl Reference {
    pub fn with(bug: Bug) -> Self {
        Self {
            bug,
            values: Arc::default(),
            waiters: Mutex::default(),
            locked: Mutex::default(),
            queue: Semaphore::new(1),
            connections: Semaphore::new(50),
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn name(&self, key: &Key) -> Vec<u8> {
        key.as_bytes()[..if self.has(Bug::ShortKeys) { 8 } else { Key::LEN }].to_vec()
    }

    fn token(&self, mut token: Token) -> Token {
        if self.has(Bug::ShortTokens) {
            let mut cut = [0; Token::LEN];
            cut[..8].copy_from_slice(&token.as_bytes()[..8]);
            token = Token::from_bytes(cut);
        }
        token
    }

    fn lives(&self, value: &Value) -> bool {
        value.deadline > Instant::now() || self.has(Bug::ExpiryForgotten)
    }

    /// One step: sees what lives under the key, and may change it.
    fn step<T>(&self, key: &Key, change: impl FnOnce(&mut Option<Value>) -> T) -> T {
        let mut values = self.values.lock().unwrap();
        let name = self.name(key);
        let mut value = values.remove(&name).filter(|value| self.lives(value));
        let answer = change(&mut value);
        values.extend(value.map(|value| (name, value)));
        answer
    }

    fn waiters(&self, key: &Key) -> Arc<Notify> {
        self.waiters.lock().unwrap().entry(*key).or_default().clone()
    }

    fn notify(&self, key: &Key) {
        let waiters = self.waiters(key);
        if self.has(Bug::WakesOneWaiter) { waiters.notify_one() } else { waiters.notify_waiters() }
    }

    async fn connection(&self) -> Option<SemaphorePermit<'_>> {
        if self.has(Bug::WaitHoldsConnection) { self.connections.acquire().await.ok() } else { None }
    }

    /// Where a store would be waited for.
    async fn pass(&self, key: &Key) {
        if self.has(Bug::LeavesLock) {
            while !self.locked.lock().unwrap().insert(*key) {
                sleep(Duration::from_millis(50)).await;
            }
            yield_now().await;
            self.locked.lock().unwrap().remove(key);
        }
        if self.has(Bug::OneQueue) {
            let _turn = self.queue.acquire().await;
            sleep(Duration::from_millis(2)).await;
        }
        let _one = self.connection().await;
    }

    /// What the two kinds of check-then-act look at before they forget the lock.
    fn acts_on_a_former_look(&self, key: &Key) -> bool {
        let values = self.values.lock().unwrap();
        match values.get(&self.name(key)) {
            None => self.has(Bug::CheckThenInsert),
            Some(value) => self.has(Bug::CheckThenReplaceExpired) && !self.lives(value),
        }
    }

    fn remove_later(&self, key: &Key, after: Duration) {
        let (values, name) = (self.values.clone(), self.name(key));
        tokio::spawn(async move {
            sleep(after).await;
            values.lock().unwrap().remove(&name);
        });
    }
}

impl Backend for Reference {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        let token = self.token(token);
        self.pass(key).await;
        let deadline = Instant::now() + lease;
        let claim = Value { token, fingerprint: *fingerprint, record: None, deadline };
        if self.has(Bug::TimerPerClaim) {
            self.remove_later(key, lease);
        }
        if self.acts_on_a_former_look(key) {
            yield_now().await;
            self.step(key, |value| *value = Some(claim));
            return Ok(Claim::Acquired);
        }
        Ok(self.step(key, |value| match value {
            None => {
                *value = Some(claim);
                Claim::Acquired
            }
            Some(found) if found.is_claim_of(token) && !self.has(Bug::OwnTokenNotRecognised) => {
                if self.has(Bug::OwnClaimProlongs) {
                    found.deadline = deadline;
                }
                Claim::Acquired
            }
            Some(found) => match found.clone().entry() {
                Entry::InProgress { .. } if self.has(Bug::WrongFingerprint) => {
                    Claim::InProgress { fingerprint: *fingerprint }
                }
                Entry::InProgress { fingerprint } => Claim::InProgress { fingerprint },
                Entry::Completed(record) => Claim::Completed(record),
            },
        }))
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        let token = self.token(token);
        self.pass(key).await;
        Ok(self.step(key, |value| match value {
            Some(found) if found.is_claim_of(token) || (found.record.is_none() && self.has(Bug::UnfencedRenew)) => {
                found.deadline = Instant::now() + lease;
                Ownership::Held
            }
            _ => Ownership::Lost,
        }))
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        let token = self.token(token);
        self.pass(key).await;
        let mut record = record.clone();
        if self.has(Bug::TruncatesRecords) && record.size() > 65_536 {
            record = Record::from_bytes(record.to_bytes().slice(..65_536)).unwrap();
        }
        let answer = self.step(key, |value| match value {
            Some(found) if found.token != token && !(found.record.is_none() && self.has(Bug::UnfencedComplete)) => {
                Ownership::Lost
            }
            Some(found) if found.record.is_some() && !self.has(Bug::OverwritesItsRecord) => Ownership::Held,
            _ => {
                let of_claim = value.as_ref().map(|found| found.deadline);
                let kept = of_claim.filter(|_| self.has(Bug::RecordKeepsDeadlineOfClaim));
                let deadline = kept.unwrap_or_else(|| Instant::now() + retention);
                *value = Some(Value { token, fingerprint: record.fingerprint(), record: Some(record), deadline });
                Ownership::Held
            }
        });
        self.notify(key);
        Ok(answer)
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        let token = self.token(token);
        self.pass(key).await;
        self.step(key, |value| {
            value.take_if(|found| {
                found.is_claim_of(token)
                    || (found.record.is_none() && self.has(Bug::UnfencedRelease))
                    || (found.token == token && self.has(Bug::ReleaseDeletesRecords))
            })
        });
        if !self.has(Bug::WaitMissesRelease) {
            self.notify(key);
        }
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        let found = self.step(key, |value| if self.has(Bug::GetTakes) { value.take() } else { value.clone() });
        Ok(found.map(Value::entry))
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        let removed = self.step(key, Option::take).is_some();
        self.notify(key);
        Ok(removed || self.has(Bug::RemoveLies))
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        let waiters = self.waiters(key);
        let _one = self.connection().await;
        loop {
            let mut changed = pin!(waiters.notified());
            if !self.has(Bug::WaitLooksThenRegisters) {
                changed.as_mut().enable();
            }
            let found = self.step(key, |value| value.clone());
            let Some(lease) = found.as_ref().filter(|value| value.record.is_none()).map(|value| value.deadline) else {
                return Ok(found.map(Value::entry));
            };
            if Instant::now() >= deadline {
                return Ok(found.map(Value::entry));
            }
            if self.has(Bug::WaitLooksThenRegisters) {
                yield_now().await;
                changed.set(waiters.notified());
            }
            let untold = self.has(Bug::WaitMissesExpiry) || self.has(Bug::ExpiryForgotten);
            let until = if untold { deadline } else { deadline.min(lease) };
            let in_time = timeout_at(until, changed).await;
            if in_time.is_err() && self.has(Bug::WaitTrustsFirstDeadline) && until == lease {
                return Ok(None);
            }
        }
    }
}

/// A [`Reference`] that waits as the trait does by default.
#[derive(Debug, Default)]
pub struct Polling {
    inner: Reference,
    takes: Duration,
    disk: tokio::sync::Mutex<()>,
    crowd: tokio::sync::Mutex<()>,
}

impl Polling {
    /// A store that does one command after the other, each in the time that it `takes`, the holders' first.
    pub fn slow(takes: Duration) -> Self {
        Self { takes, ..Self::default() }
    }

    async fn work(&self) {
        let _turn = self.disk.lock().await;
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
    }
}

impl Backend for Polling {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        let _turn = self.crowd.lock().await;
        self.work().await;
        self.inner.claim(key, token, of, lease).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.work().await;
        self.inner.renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.work().await;
        self.inner.complete(key, token, record, retention).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.work().await;
        self.inner.release(key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        let _turn = self.crowd.lock().await;
        self.work().await;
        self.inner.get(key).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.work().await;
        self.inner.remove(key).await
    }
}
