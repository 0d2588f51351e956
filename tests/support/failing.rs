//! A backend that answers no command.

use std::time::Duration;

use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

/// A backend whose every command fails, with the error that this makes.
pub(crate) struct Failing(pub(crate) fn() -> BackendError);

impl Failing {
    fn fails<T>(&self) -> Result<T, BackendError> {
        Err(self.0())
    }
}

impl Backend for Failing {
    async fn claim(&self, _: &Key, _: Token, _: &Fingerprint, _: Duration) -> Result<Claim, BackendError> {
        self.fails()
    }

    async fn renew(&self, _: &Key, _: Token, _: Duration) -> Result<Ownership, BackendError> {
        self.fails()
    }

    async fn complete(&self, _: &Key, _: Token, _: &Record, _: Duration) -> Result<Ownership, BackendError> {
        self.fails()
    }

    async fn release(&self, _: &Key, _: Token) -> Result<(), BackendError> {
        self.fails()
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, BackendError> {
        self.fails()
    }

    async fn remove(&self, _: &Key) -> Result<bool, BackendError> {
        self.fails()
    }
}
