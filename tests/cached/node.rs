//! Processes that each have a cache of their own, over one backend.

use std::time::Duration;

use tokio::task::JoinHandle;
use tower_idempotency::{
    Backend, CachedBackend, Claim, Fingerprint, Key, MemoryBackend, Ownership, Record, Token,
    testing::{Command, FaultyBackend, Held},
};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const MAX_AGE: Duration = Duration::from_secs(60);
pub(crate) const MOMENT: Duration = Duration::from_millis(1);

pub(crate) type Shared = FaultyBackend<MemoryBackend>;

pub(crate) fn shared() -> Shared {
    FaultyBackend::new(MemoryBackend::new())
}

pub(crate) fn key() -> Key {
    Key::new("", "k-1")
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint::of("a request")
}

pub(crate) fn record(text: &str) -> Record {
    Record::value(&fingerprint(), text.as_bytes())
}

/// A process with a cache of its own.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) cached: CachedBackend<Shared>,
    pub(crate) shared: Shared,
}

impl Node {
    pub(crate) fn of(shared: &Shared) -> Self {
        Self::bounded(shared, MemoryBackend::new())
    }

    pub(crate) fn bounded(shared: &Shared, memory: MemoryBackend) -> Self {
        Self { cached: CachedBackend::new(memory, shared.clone()), shared: shared.clone() }
    }

    pub(crate) async fn claim(&self, key: Key) -> Claim {
        self.cached.claim(&key, Token::random(), &fingerprint(), LEASE).await.unwrap()
    }

    /// Claims the key and returns the token.
    pub(crate) async fn acquire(&self, key: Key) -> Token {
        let token = Token::random();
        let claim = self.cached.claim(&key, token, &fingerprint(), LEASE).await.unwrap();
        assert_eq!(claim, Claim::Acquired);
        token
    }

    /// Sends the complete of the run that `token` holds, in the background.
    pub(crate) fn begin_complete(&self, token: Token, record: &Record, retention: Duration) -> JoinHandle<Ownership> {
        let (node, record) = (self.clone(), record.clone());
        tokio::spawn(async move { node.complete(key(), token, &record, retention).await })
    }

    pub(crate) async fn complete(&self, key: Key, token: Token, record: &Record, retention: Duration) -> Ownership {
        self.cached.complete(&key, token, record, retention).await.unwrap()
    }

    /// Runs the request with `key`: two commands.
    pub(crate) async fn run(&self, key: Key, record: &Record, retention: Duration) {
        let token = self.acquire(key).await;
        assert_eq!(self.complete(key, token, record, retention).await, Ownership::Held);
    }

    /// The claim's answer, and how many commands it took.
    pub(crate) async fn counted_claim(&self, key: Key) -> (Claim, usize) {
        let before = self.shared.log().len();
        let claim = self.claim(key).await;
        (claim, self.shared.log().len() - before)
    }

    /// Sends a claim, whose answer is on its way until it is let go on.
    pub(crate) async fn hold_claim(&self) -> (Held, JoinHandle<Claim>) {
        let (node, reply) = (self.clone(), self.shared.hold_reply(Command::Claim));
        let claim = tokio::spawn(async move { node.claim(key()).await });
        reply.arrived().await;
        (reply, claim)
    }
}

pub(crate) fn completed(record: &Record) -> Claim {
    Claim::Completed(record.clone())
}
