//! The protocol between a run and its backend, free of HTTP: claim, renew, complete or release.
//!
//! The layer, the deduplicator and the tests' model walks all drive this code. `docs/decisions/0001-protocol.md` has its
//! rules; without any one of them a handler can run twice, or a key stay locked, after a handful of faults.

mod busy;
mod census;
mod claim;
mod lease;
mod live;
mod renewer;
mod retry;
mod runtimes;
mod wait;
mod watchdog;
mod word;

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

pub use self::lease::{Completion, Lease};
#[cfg(feature = "postgres")]
pub(crate) use self::retry::persist;
use self::{
    busy::{BusyKeys, News},
    retry::Patience,
    runtimes::Runtimes,
};
pub(crate) use self::{census::Census, live::LiveRun, word::Word};
use crate::{
    Backend, BackendError, Entry, Fingerprint, Record,
    fingerprint::Difference,
    observe::{Kind, Observer},
    sync::watch,
};

/// How many releases a layer sends in the background at most. Claims beyond that are left to their lease.
const BEHIND: usize = 1024;

/// The durations that a protocol works with.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long a claim lives unless renewed.
    pub lease: Duration,
    /// How long a record lives.
    pub retention: Duration,
    /// How long a run is renewed.
    pub max_run: Duration,
    /// How long a request waits for the backend in one step.
    pub backend_timeout: Duration,
    /// Whether a claim is extended to the retention before its run starts.
    pub at_most_once: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            retention: Duration::from_secs(24 * 60 * 60),
            max_run: Duration::from_secs(60 * 60),
            backend_timeout: Duration::from_secs(1),
            at_most_once: false,
        }
    }
}

impl Terms {
    /// What a claim is extended to by each renewal. At most once: the retention, so that even a crash keeps the key.
    fn term(&self) -> Duration {
        if self.at_most_once { self.retention } else { self.lease }
    }
}

/// One backend, and the runs of this process that hold claims in it.
#[derive(Debug)]
pub struct Protocol<B> {
    backend: Arc<B>,
    terms: Terms,
    runtimes: Arc<Runtimes>,
    census: Arc<Census>,
    behind: Arc<Semaphore>,
    /// `None` for a local backend, which is as quick to ask.
    busy: Option<BusyKeys>,
    observer: Observer,
}

/// Why a request does not run.
#[derive(Debug)]
pub enum Refusal {
    /// The same request has run.
    Replay(Record),
    /// The same request is running.
    InProgress,
    /// The key belongs to another request.
    Mismatch,
    /// The key belongs to the same request, sent with other credentials.
    CredentialsDiffer,
    /// The backend did not answer. Nothing runs.
    Unavailable(BackendError),
}

impl<B: Backend> Protocol<B> {
    /// A protocol over `backend` without any run.
    pub fn new(backend: Arc<B>, terms: Terms) -> Self {
        Self::observed(backend, terms, Observer::new(Kind::Message, ""))
    }

    /// The same, which tells `observer` what happens.
    pub(crate) fn observed(backend: Arc<B>, terms: Terms, observer: Observer) -> Self {
        Self {
            busy: (!backend.is_local()).then(BusyKeys::default),
            backend,
            terms,
            runtimes: Arc::default(),
            census: Arc::default(),
            behind: Arc::new(Semaphore::new(BEHIND)),
            observer,
        }
    }

    pub(crate) fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn census(&self) -> &Arc<Census> {
        &self.census
    }

    /// From now on duplicates in this process ask the backend who holds the key of `run`. Those that wait for its end do
    /// so until the sender that is returned has told them of it, or is dropped.
    fn part(&self, run: &Arc<LiveRun>) -> Option<watch::Sender<News>> {
        self.busy.as_ref()?.part(run)
    }

    /// How many keys this process claims or runs.
    #[cfg(feature = "test-util")]
    pub fn busy_keys(&self) -> usize {
        self.busy.as_ref().map_or(0, BusyKeys::len)
    }

    /// The patience for a step that a client waits for.
    fn step(&self) -> Patience {
        Patience::step(self.terms.backend_timeout)
    }
}

/// Why a request with `fingerprint` does not run while `entry` is stored under its key.
fn refusal(entry: Entry, fingerprint: &Fingerprint) -> Refusal {
    match entry {
        Entry::Completed(record) => judge(&record.fingerprint(), fingerprint, Refusal::Replay(record)),
        Entry::InProgress { fingerprint: holder } => judge(&holder, fingerprint, Refusal::InProgress),
    }
}

/// `same`, unless the key belongs to another request.
fn judge(theirs: &Fingerprint, ours: &Fingerprint, same: Refusal) -> Refusal {
    match theirs.difference(ours) {
        None => same,
        Some(Difference::Request) => Refusal::Mismatch,
        Some(Difference::Credentials) => Refusal::CredentialsDiffer,
    }
}

impl<B> Protocol<B> {
    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }
}

impl<B> Drop for Protocol<B> {
    fn drop(&mut self) {
        self.runtimes.wake_renewers();
    }
}
