//! The backend of an application: it writes down what it is told, and is wrong on purpose where the plan says so.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use std::sync::Arc;
use tower_idempotency::{Backend, BackendError, BoxBackend, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

use crate::{
    clock::{Nanos, now},
    ledger::Ledger,
};

/// How an application is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Build {
    Right,
    /// A holder that has lost its lease takes no notice, and overwrites what is there.
    FencingOff,
    /// Renewals are not sent.
    HeartbeatOff,
    /// The key is given back when the client hangs up, and the run goes on.
    ReleaseOnDisconnect,
    /// The application is right, and its store keeps nothing on its disk.
    ForgetfulStore,
}

/// Sits between the layer and the store.
pub(crate) struct Witness {
    inner: BoxBackend,
    build: Build,
    ledger: Arc<Ledger>,
    /// When each claim that is under way was first sent.
    sent: Mutex<HashMap<Token, Nanos>>,
}

impl Witness {
    pub(crate) fn new(inner: BoxBackend, build: Build, ledger: Arc<Ledger>) -> Self {
        Self { inner, build, ledger, sent: Mutex::default() }
    }

    fn first_sent(&self, token: Token) -> Nanos {
        *self.sent.lock().unwrap().entry(token).or_insert_with(now)
    }
}

/// A token as the ledger has it.
pub(crate) fn hex(token: Token) -> String {
    format!("{:032x}", u128::from_be_bytes(*token.as_bytes()))
}

impl Backend for Witness {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        let sent = self.first_sent(token);
        let claim = self.inner.claim(key, token, of, lease).await?;
        self.sent.lock().unwrap().remove(&token);
        if claim == Claim::Acquired {
            self.ledger.claimed(&hex(token), sent);
        }
        Ok(claim)
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        let sent = now();
        let answer = match self.build {
            Build::HeartbeatOff => Ownership::Held,
            _ => self.inner.renew(key, token, lease).await?,
        };
        if answer == Ownership::Held {
            self.ledger.renewed(&hex(token), sent);
        }
        Ok(answer)
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        let mut answer = self.inner.complete(key, token, record, retention).await?;
        if answer == Ownership::Lost && self.build == Build::FencingOff {
            self.inner.remove(key).await?;
            answer = self.inner.complete(key, token, record, retention).await?;
        }
        if answer == Ownership::Held {
            self.ledger.recorded(&hex(token));
        }
        Ok(answer)
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.sent.lock().unwrap().remove(&token);
        self.inner.release(key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.inner.get(key).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.inner.remove(key).await
    }
}
