//! Whether a run counts as having happened, so that its response is recorded, or gives its key back.

use http::{HeaderMap, response};

use crate::{
    Backend, Rejection,
    layer::Shared,
    protocol::{Lease, Word},
};

impl<B: Backend> Shared<B> {
    /// Whether the key is given back, judged by the head of the response. What another idempotency layer has refused did
    /// not happen, whatever the handler says.
    pub(crate) fn releases(&self, lease: &Lease<B>, head: &response::Parts) -> bool {
        let refused = head.extensions.get::<Rejection>().is_some();
        refused || self.by_word(lease).unwrap_or_else(|| self.settings.record.releases(head))
    }

    /// The same, now that its response is known to its end.
    pub(crate) fn releases_at_end(
        &self,
        lease: &Lease<B>,
        head: &response::Parts,
        trailers: Option<&HeaderMap>,
    ) -> bool {
        self.by_word(lease).unwrap_or_else(|| self.settings.record.releases_at_end(head, trailers))
    }

    /// The handler's word, or, at most once, that everything is recorded. `None`: it is left to the policy. What is
    /// committed is recorded, whatever is said.
    fn by_word(&self, lease: &Lease<B>) -> Option<bool> {
        if lease.run().is_committed() {
            return Some(false);
        }
        let word = lease.run().word().map(|word| word == Word::Release);
        word.or(self.protocol.terms().at_most_once.then_some(false))
    }
}

/// Keeps a response out of its record, whatever the handler has said of its key. A cookie was made for one user, and the
/// same body may be sent by another.
pub(crate) fn withhold<B: Backend>(lease: &Lease<B>) {
    lease.run().say(match lease.run().word() {
        None | Some(Word::Release) => Word::Release,
        Some(Word::Keep | Word::KeepWithoutBody) => Word::KeepWithoutBody,
    });
}
