//! The behaviour suite over a backend of few lines.

#[macro_use]
mod behaviour;

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;
use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

#[derive(Default)]
struct Reference(Mutex<HashMap<Key, (Token, Instant, Entry)>>);

impl Reference {
    fn with<T>(
        &self,
        key: &Key,
        command: impl FnOnce(&mut Option<(Token, Entry, Instant)>) -> T,
    ) -> Result<T, BackendError> {
        let mut map = self.0.lock().unwrap();
        let mut slot = map.remove(key).map(|(t, d, e)| (t, e, d)).filter(|(_, _, d)| *d > Instant::now());
        let answer = command(&mut slot);
        if let Some((t, e, d)) = slot {
            map.insert(*key, (t, d, e));
        }
        Ok(answer)
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
        self.with(key, |slot| match slot {
            None => {
                *slot = Some((token, Entry::InProgress { fingerprint: *fingerprint }, Instant::now() + lease));
                Claim::Acquired
            }
            Some((_, Entry::Completed(record), _)) => Claim::Completed(record.clone()),
            Some((holder, _, _)) if *holder == token => Claim::Acquired,
            Some((_, Entry::InProgress { fingerprint }, _)) => Claim::InProgress { fingerprint: *fingerprint },
        })
    }
    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.with(key, |slot| match slot {
            Some((holder, Entry::InProgress { .. }, deadline)) if *holder == token => {
                *deadline = Instant::now() + lease;
                Ownership::Held
            }
            _ => Ownership::Lost,
        })
    }
    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.with(key, |slot| match slot {
            Some((holder, _, _)) if *holder != token => Ownership::Lost,
            Some((_, Entry::Completed(_), _)) => Ownership::Held,
            _ => {
                *slot = Some((token, Entry::Completed(record.clone()), Instant::now() + retention));
                Ownership::Held
            }
        })
    }
    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.with(key, |slot| {
            slot.take_if(|(holder, entry, _)| *holder == token && matches!(entry, Entry::InProgress { .. }));
        })
    }
    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.with(key, |slot| slot.as_ref().map(|(_, entry, _)| entry.clone()))
    }
    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.with(key, |slot| slot.take().is_some())
    }
}

suite!(tower_idempotency::BoxBackend::new(crate::Reference::default()));
