//! [`Run`]: one execution under a claim, as the handler sees it.

use std::{fmt, sync::Arc};

use crate::{Key, Token, header_key::KeyText, protocol::Held};

/// One execution under a claim. The layer puts it into the extensions of a guarded request; a bypassed request has
/// none.
///
/// ```
/// use tower_idempotency::Run;
///
/// fn handler(parts: &http::request::Parts) -> Option<String> {
///     let run = parts.extensions.get::<Run>()?;
///     Some(format!("INSERT INTO payments (idempotency_key) VALUES ('{}')", run.key()))
/// }
/// ```
#[derive(Clone)]
pub struct Run {
    text: KeyText,
    held: Arc<Held>,
}

impl Run {
    pub(crate) fn new(text: KeyText, held: Arc<Held>) -> Self {
        Self { text, held }
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
        self.held.token
    }

    /// Whether the claim may have gone to another run, because this one stalled past its lease or could not renew it.
    ///
    /// A handler that has not yet done anything irreversible should stop then. Its response will not be sent.
    #[must_use]
    pub fn lease_lost(&self) -> bool {
        self.held.is_lost()
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.held.key == *key
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a key does not belong in a log.
        f.debug_struct("Run")
            .field("key", &self.held.key)
            .field("token", &self.held.token)
            .field("lease_lost", &self.lease_lost())
            .finish()
    }
}
