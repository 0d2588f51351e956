//! A backend that is a round trip away.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    task::yield_now,
    time::{Instant, sleep},
};
use tower_idempotency::{
    Backend, BackendError, Claim, Entry, Fingerprint, Key, MemoryBackend, Ownership, Record, Token,
};

/// A [`MemoryBackend`] that says that it is not in this process, with the round trips that this costs.
#[derive(Debug, Clone)]
pub(crate) struct Distant {
    /// What is stored, without the way to it.
    pub(crate) memory: MemoryBackend,
    round_trip: Duration,
    /// Held by the command that is on its way, where they go one at a time.
    way: Option<Arc<Mutex<()>>>,
}

impl Distant {
    pub(crate) fn new(memory: MemoryBackend, round_trip: Duration) -> Self {
        Self { memory, round_trip, way: None }
    }

    /// Behind a connection that takes one command at a time, in the order in which they are sent.
    #[allow(dead_code, reason = "not every test target needs it")]
    pub(crate) fn one_at_a_time(self) -> Self {
        Self { way: Some(Arc::default()), ..self }
    }

    async fn there_and_back<T>(&self, command: impl Future<Output = T>) -> T {
        let _way = match &self.way {
            Some(way) => Some(way.lock().await),
            None => None,
        };
        self.half_way().await;
        let answer = command.await;
        self.half_way().await;
        answer
    }

    async fn half_way(&self) {
        if self.round_trip.is_zero() {
            yield_now().await;
        } else {
            sleep(self.round_trip / 2).await;
        }
    }
}

impl Backend for Distant {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        self.there_and_back(self.memory.claim(key, token, of, lease)).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.there_and_back(self.memory.renew(key, token, lease)).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.there_and_back(self.memory.complete(key, token, record, retention)).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.there_and_back(self.memory.release(key, token)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.there_and_back(self.memory.get(key)).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.there_and_back(self.memory.remove(key)).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        self.there_and_back(self.memory.wait(key, deadline)).await
    }

    fn is_local(&self) -> bool {
        false
    }
}
