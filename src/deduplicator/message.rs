//! [`Message`]: which message is it?

use std::fmt;

use crate::{Fingerprint, Key, header_key::KeyText};

/// What tells two messages apart: a key, perhaps with the payload that belongs to it, or the payload alone.
///
/// ```
/// # use tower_idempotency::{Backend, Deduplicator, Message};
/// # async fn handle() -> Result<[u8; 0], std::io::Error> { Ok([]) }
/// # async fn example(deduplicator: Deduplicator<impl Backend>, payload: &[u8], topic: &str, offset: u64) {
/// // The sender names each message: any string or bytes.
/// let processed = deduplicator.run("evt_123", handle()).await;
/// // The key is made of what identifies a message here.
/// let processed = deduplicator.run(&format!("{topic}/{offset}"), handle()).await;
/// // The same key with another payload is a mistake of the sender's, and does not run.
/// let processed = deduplicator.run(Message::new("evt_123").payload(payload), handle()).await;
/// // Nothing but the payload tells two messages apart.
/// let processed = deduplicator.run(Message::of_payload(payload), handle()).await;
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Message {
    /// `None`: it was empty.
    text: Option<KeyText>,
    hashed: bool,
    fingerprint: Fingerprint,
}

impl Message {
    /// The message that its sender calls `key`: any text or bytes but none at all, which
    /// [`RunError::KeyMissing`](super::RunError::KeyMissing) answers.
    ///
    /// A key of 1 to 255 visible ASCII characters is used as it is ([`Run::key`](crate::Run::key),
    /// [`Key::new`]), of any other the SHA-256 digest.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self { text: KeyText::of_value(key.as_ref()), hashed: false, fingerprint: Fingerprint::of("") }
    }

    /// The message with the content `payload`, identified by its SHA-256 digest: equal messages count as one for the
    /// whole [retention](super::Deduplicator::retention). Its key never equals that of a named message.
    pub fn of_payload(payload: impl AsRef<[u8]>) -> Self {
        let payload = payload.as_ref();
        let text = (!payload.is_empty()).then(|| KeyText::digest_of(payload));
        Self { text, hashed: true, fingerprint: Fingerprint::of(payload) }
    }

    /// The same message, with the content `payload`. If its key was used with another payload, or with none, it does
    /// not run: [`RunError::Mismatch`](super::RunError::Mismatch).
    pub fn payload(self, payload: impl AsRef<[u8]>) -> Self {
        Self { fingerprint: Fingerprint::of(payload), ..self }
    }

    /// `None`: nothing tells it from other messages.
    pub(super) fn identity(self, namespace: &str) -> Option<Identity> {
        let Self { text, hashed, fingerprint } = self;
        let text = text?;
        let key = match hashed {
            true => Key::hashed(namespace, None, text.as_str().as_bytes()),
            false => Key::new(namespace, text.as_str()),
        };
        Some(Identity { key, text, hashed, fingerprint })
    }
}

/// A message in the namespace of its consumer.
pub(super) struct Identity {
    pub(super) key: Key,
    pub(super) text: KeyText,
    /// Whether it is known by its payload.
    pub(super) hashed: bool,
    pub(super) fingerprint: Fingerprint,
}

impl<K: AsRef<[u8]> + ?Sized> From<&K> for Message {
    fn from(key: &K) -> Self {
        Self::new(key)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a key does not belong in a log.
        f.debug_struct("Message").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}
