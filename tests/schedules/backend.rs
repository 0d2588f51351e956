//! A backend whose commands and replies wait until the schedule lets one of them go on.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rand::{RngExt, rngs::StdRng};
use tokio::{sync::oneshot, time::Instant};
use tower_idempotency::{
    Backend, BackendError, Claim, Entry, Fingerprint, Key, MemoryBackend, Ownership, Record, Token,
};

/// Where everything waits that the schedule orders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<Vec<oneshot::Sender<()>>>>);

impl Gates {
    fn lock(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.0.lock().expect("nothing panics under this lock")
    }

    /// Waits for its turn.
    pub(crate) async fn pass(self) {
        let (opener, open) = oneshot::channel();
        self.lock().push(opener);
        // Gates live as long as their schedule.
        let _ = open.await;
    }

    /// Lets one of those go on that wait, if any does.
    pub(crate) fn open_one(&self, dice: &mut StdRng) -> bool {
        let mut gates = self.lock();
        gates.retain(|gate| !gate.is_closed());
        if gates.is_empty() {
            return false;
        }
        let chosen = dice.random_range(0..gates.len());
        gates.swap_remove(chosen).send(()).is_ok()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Gated {
    pub(crate) memory: MemoryBackend,
    pub(crate) gates: Gates,
    pub(crate) local: bool,
}

impl Gated {
    async fn send<T>(&self, command: impl Future<Output = T>) -> T {
        self.gates.clone().pass().await;
        let answer = command.await;
        self.gates.clone().pass().await;
        answer
    }
}

impl Backend for Gated {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        self.send(self.memory.claim(key, token, of, lease)).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.send(self.memory.renew(key, token, lease)).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.send(self.memory.complete(key, token, record, retention)).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.send(self.memory.release(key, token)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.send(self.memory.get(key)).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.send(self.memory.remove(key)).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        self.send(self.memory.wait(key, deadline)).await
    }

    fn is_local(&self) -> bool {
        self.local
    }
}
