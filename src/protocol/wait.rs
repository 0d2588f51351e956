//! Waiting for the end of a run that another request holds the key for. A waiter changes nothing in the backend.

use tokio::time::{Instant, timeout_at};

use super::{Protocol, Refusal, busy::News, judge, refusal};
use crate::{Backend, BackendError, Fingerprint, Key};

impl<B: Backend> Protocol<B> {
    /// Waits until nothing is stored under `key`, so that it can be claimed; or, where a run of this process holds it,
    /// until that is over, without a command.
    ///
    /// # Errors
    ///
    /// Why the request that `fingerprint` stands for does not run: the key's run has completed, is still in progress
    /// at `until`, or is by now that of another request; or the backend failed, or had not answered a time-out later.
    pub async fn until_free(&self, key: &Key, fingerprint: &Fingerprint, until: Instant) -> Result<(), Refusal> {
        let _waits = self.observer.waits();
        if let Some((holder, news)) = self.busy.as_ref().and_then(|busy| busy.held(key)) {
            return match timeout_at(until, News::of_end(news)).await {
                Ok(None) => Ok(()),
                Ok(Some(news)) => Err(news.refusal(fingerprint)),
                Err(_elapsed) => Err(judge(&holder, fingerprint, Refusal::InProgress)),
            };
        }
        let answer = timeout_at(until + self.terms.backend_timeout, B::wait(&self.backend, key, until)).await;
        match answer.unwrap_or_else(|_elapsed| Err(BackendError::timed_out())) {
            Ok(None) => Ok(()),
            Ok(Some(entry)) => Err(refusal(entry, fingerprint)),
            Err(error) => {
                self.observer.wait_failed(key, &error);
                Err(Refusal::Unavailable(error))
            }
        }
    }
}
