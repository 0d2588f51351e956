//! The settings of [`Deduplicator`].

use std::{sync::Arc, time::Duration};

use super::Deduplicator;
use crate::{
    Backend,
    observe::{Kind, Observer},
    protocol::{Protocol, Terms},
    times,
};

impl<B: Backend> Deduplicator<B> {
    /// Separates the keys of this consumer from those of other consumers and services on the same backend: each
    /// consumer of a message runs once. Default: empty.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..self }.with(|_| {})
    }

    /// How long a record lives, and with it the promise not to run its message again. It should be at least as long as
    /// the queue may deliver a message again: days rather than hours. Default: 24 hours.
    ///
    /// # Panics
    ///
    /// When `retention` is shorter than 10 milliseconds, as no delivery would find a record, or longer than 100 years.
    #[track_caller]
    pub fn retention(self, retention: Duration) -> Self {
        let retention = times::retention(retention);
        self.with(|terms| terms.retention = retention)
    }

    /// How long a claim lives unless renewed: the time for which a crashed process blocks a message. Default: 30
    /// seconds.
    ///
    /// Handlers may take longer: their lease is renewed after each third of its length.
    ///
    /// # Panics
    ///
    /// When `lease` is shorter than 10 milliseconds, as it would be over before a handler could start, or longer than
    /// 100 years.
    #[track_caller]
    pub fn lease(self, lease: Duration) -> Self {
        let lease = times::lease(lease);
        self.with(|terms| terms.lease = lease)
    }

    /// How long a run can renew its lease. After that the lease ends, and the message may run again. Default: 1 hour.
    ///
    /// # Panics
    ///
    /// When `max_run` is zero, as no run could be renewed, or longer than 100 years.
    #[track_caller]
    pub fn max_run(self, max_run: Duration) -> Self {
        let max_run = times::max_run(max_run);
        self.with(|terms| terms.max_run = max_run)
    }

    /// How long a call waits for the backend in one step: for its claim, and for its record. Default: 1 second.
    ///
    /// # Panics
    ///
    /// When `timeout` is shorter than 1 millisecond, as no backend could answer, or longer than 100 years.
    #[track_caller]
    pub fn backend_timeout(self, timeout: Duration) -> Self {
        let timeout = times::backend_timeout(timeout);
        self.with(|terms| terms.backend_timeout = timeout)
    }

    /// Lets a delivery of a message that is being processed wait for that run, for at most `max`. Default: it gets
    /// [`RunError::InProgress`](super::RunError::InProgress) at once.
    ///
    /// If the first run releases its key, one of the waiting deliveries runs, and the others wait for that one.
    ///
    /// # Panics
    ///
    /// When `max` is shorter than 1 millisecond, as no run could end meanwhile, or longer than 100 years.
    #[track_caller]
    pub fn wait(mut self, max: Duration) -> Self {
        self.wait = Some(times::wait(max));
        self
    }

    /// Refuses a message rather than processing it twice: if a handler fails or panics, that is final, with
    /// [`RunError::OutcomeUnknown`](super::RunError::OutcomeUnknown) for later deliveries, and a process that dies
    /// leaves its message [in progress](super::RunError::InProgress) until the retention is over. Default: off.
    pub fn at_most_once(self) -> Self {
        self.with(|terms| terms.at_most_once = true)
    }

    /// Other terms mean another protocol over the same backend.
    fn with(self, change: impl FnOnce(&mut Terms)) -> Self {
        let mut terms = self.protocol.terms().clone();
        change(&mut terms);
        let observer = Observer::new(Kind::Message, &self.namespace);
        let protocol = Protocol::observed(Arc::clone(self.protocol.backend()), terms, observer);
        Self { protocol: Arc::new(protocol), ..self }
    }
}
