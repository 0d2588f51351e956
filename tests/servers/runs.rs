//! Runs by the commands of a backend, without HTTP.

use tokio::{task::JoinHandle, time::Instant};
use tower_idempotency::{Backend, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

use super::LONG;

fn fingerprint() -> Fingerprint {
    Fingerprint::of("a request")
}

/// What each run leaves.
pub(crate) fn record() -> Record {
    Record::value(&fingerprint(), b"done")
}

/// Claims a key that is free.
pub(crate) async fn claim(backend: &impl Backend, key: Key) -> Token {
    let token = Token::random();
    assert_eq!(backend.claim(&key, token, &fingerprint(), LONG).await.unwrap(), Claim::Acquired);
    token
}

/// Records the run of `token`.
pub(crate) async fn complete(backend: &impl Backend, key: Key, token: Token) {
    assert_eq!(backend.complete(&key, token, &record(), LONG).await.unwrap(), Ownership::Held);
}

/// Waits in the background until the key is no longer in progress.
pub(crate) fn wait(backend: &(impl Backend + Clone), key: Key) -> JoinHandle<Option<Entry>> {
    let backend = backend.clone();
    tokio::spawn(async move { backend.wait(&key, Instant::now() + LONG).await.unwrap() })
}
