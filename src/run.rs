//! [`Run`]: one execution under a claim, as the handler sees it.

use std::{fmt, sync::Arc};

use crate::{
    Key, Token,
    header_key::KeyText,
    protocol::{LiveRun, Word},
};

/// One execution under a claim. The layer puts it into the extensions of a guarded request; a bypassed request has
/// none. [`Deduplicator::run_with`](crate::Deduplicator::run_with) hands it to the handler of a message.
///
/// With the feature `axum` it is an extractor: a handler takes a `Run`, or an `Option<Run>` if its requests may be
/// bypassed. Elsewhere:
///
/// ```
/// use tower_idempotency::Run;
///
/// fn parameters(parts: &http::request::Parts, amount: i64) -> Option<(&str, i64)> {
///     // For "INSERT INTO payments (idempotency_key, amount) VALUES ($1, $2)", with a UNIQUE constraint on the key.
///     let run = parts.extensions.get::<Run>()?;
///     Some((run.key(), amount))
/// }
/// ```
#[derive(Clone)]
pub struct Run {
    text: KeyText,
    live: Arc<LiveRun>,
}

impl Run {
    pub(crate) fn new(text: KeyText, live: Arc<LiveRun>) -> Self {
        Self { text, live }
    }

    /// The key as the client means it: 1 to 255 visible ASCII characters, without the quotes it may have sent.
    ///
    /// Under a UNIQUE constraint in the handler's own transaction it makes the effect unique, not only the run.
    #[must_use]
    pub fn key(&self) -> &str {
        self.text.as_str()
    }

    /// The token of this run: another one for each execution of the same key.
    #[must_use]
    pub fn token(&self) -> Token {
        self.live.token
    }

    /// Whether the claim may have gone to another run, because this one stalled past its lease or could not renew it.
    ///
    /// A handler that has not yet done anything irreversible should stop then. Its response will not be sent.
    #[must_use]
    pub fn lease_lost(&self) -> bool {
        self.live.is_lost()
    }

    /// A key for a call to another service: the same in every run of this key, another one for other `parts`.
    ///
    /// It lets an attempt after a failed one repeat its calls safely, as the other service sees the same key again:
    ///
    /// ```
    /// # fn example(run: &tower_idempotency::Run) {
    /// let charge = run.derive(["stripe", "charge"]);
    /// let refund = run.derive(["stripe", "refund"]);
    /// assert_ne!(charge, refund);
    /// # }
    /// ```
    ///
    /// The text is a UUID of version 8 (RFC 9562): 122 bits of the SHA-256 of namespace, scope, the client's key and
    /// `parts`. It does not change between versions of this crate.
    #[must_use]
    pub fn derive<P: AsRef<[u8]>>(&self, parts: impl IntoIterator<Item = P>) -> String {
        self.live.key.derive(parts)
    }

    /// Keeps the key completed, whatever comes of this run: for a handler that is about to do what must not be done
    /// twice.
    ///
    /// The response is recorded as usual, also if its status would give the key back. After a panic, an error of the
    /// service or a response body that fails, what is recorded is that the outcome is unknown: duplicates get 409,
    /// [`Rejection::OutcomeUnknown`](crate::Rejection::OutcomeUnknown), until the retention is over. A node that dies
    /// leaves nothing: its lease ends. For that there is
    /// [`at_most_once`](crate::IdempotencyLayer::at_most_once).
    ///
    /// Of `keep`, [`keep_without_body`](Self::keep_without_body) and [`release`](Self::release) the last call before the
    /// response is returned counts.
    pub fn keep(&self) {
        self.live.say(Word::Keep);
    }

    /// Keeps the key completed like [`keep`](Self::keep), but not the response: its client gets it, and duplicates get
    /// 409, [`Rejection::NotKept`](crate::Rejection::NotKept). For responses that hold a secret.
    pub fn keep_without_body(&self) {
        self.live.say(Word::KeepWithoutBody);
    }

    /// Gives the key back when this run ends, however it ends, also at most once: its client gets the response, and the
    /// next request with the key runs. For a handler that has done nothing.
    pub fn release(&self) {
        self.live.say(Word::Release);
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.live.key == *key
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a key does not belong in a log.
        f.debug_struct("Run")
            .field("key", &self.live.key)
            .field("token", &self.live.token)
            .field("lease_lost", &self.lease_lost())
            .finish()
    }
}
