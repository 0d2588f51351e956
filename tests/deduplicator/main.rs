//! Messages that are delivered more than once. On tokio's paused clock, but for one test of many threads.
#![cfg(all(feature = "memory", feature = "test-util"))]

mod abandonment;
mod deliveries;
mod leases;
mod messages;
mod outcomes;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::sleep,
};
use tower_idempotency::{
    Backend, Claim, Deduplicator, Fingerprint, Key, MemoryBackend, Processed, Run, RunError, Token,
    testing::{Command, Fault, FaultyBackend},
};

const LEASE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

type Faulty = FaultyBackend<MemoryBackend>;
type Answer = Result<Processed, RunError<Failure>>;

#[derive(Debug, PartialEq)]
struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no ink")
    }
}

impl Error for Failure {}

/// A process: its deduplicator, and its handler, which counts its runs and waits at a gate that a test may close.
struct Consumer {
    deduplicator: Deduplicator<Faulty>,
    runs: Arc<watch::Sender<usize>>,
    gate: Arc<Semaphore>,
}

impl Consumer {
    fn new(backend: &Faulty, change: impl FnOnce(Deduplicator<Faulty>) -> Deduplicator<Faulty>) -> Self {
        Self {
            deduplicator: change(Deduplicator::new(backend.clone())),
            runs: Arc::new(watch::Sender::new(0)),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// The handler: it says the number of its run.
    fn handle(&self) -> impl Future<Output = Result<String, Failure>> + Send + use<> {
        let (runs, gate) = (Arc::clone(&self.runs), Arc::clone(&self.gate));
        async move {
            runs.send_modify(|runs| *runs += 1);
            let run = *runs.borrow();
            let _passed = gate.acquire().await.unwrap();
            Ok(format!("receipt {run}"))
        }
    }

    /// A delivery of `evt_1`.
    async fn deliver(&self) -> Answer {
        self.deduplicator.run("evt_1", self.handle()).await
    }

    /// A delivery of `evt_1` whose handler speaks and then ends as `end` says.
    async fn deliver_with<F>(&self, end: impl FnOnce(Run) -> F + Send + 'static) -> Answer
    where
        F: Future<Output = Result<String, Failure>> + Send + 'static,
    {
        self.deduplicator.run_with("evt_1", end).await
    }

    /// A delivery of `evt_1`, whose handler is at the gate now and stays there.
    async fn hold(&self) -> JoinHandle<Answer> {
        self.hold_message("evt_1").await
    }

    async fn hold_message(&self, id: &str) -> JoinHandle<Answer> {
        self.close();
        let runs = self.runs();
        let delivery = tokio::spawn(self.deduplicator.run(id, self.handle()));
        self.started(runs + 1).await;
        delivery
    }

    fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS);
    }

    async fn started(&self, runs: usize) {
        self.runs.subscribe().wait_for(|&started| started >= runs).await.unwrap();
    }

    fn runs(&self) -> usize {
        *self.runs.borrow()
    }
}

fn setup() -> (Faulty, Consumer) {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let consumer = Consumer::new(&backend, |deduplicator| deduplicator);
    (backend, consumer)
}

fn at_most_once() -> (Faulty, Consumer) {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let consumer = Consumer::new(&backend, Deduplicator::at_most_once);
    (backend, consumer)
}

fn executed(text: &'static str) -> Processed {
    Processed::Executed(Bytes::from(text))
}

fn replayed(text: &'static str) -> Processed {
    Processed::Replayed(Some(Bytes::from(text)))
}

fn key() -> Key {
    Key::new("", "evt_1")
}

/// Another process claims `evt_1`.
async fn claim_elsewhere(backend: &Faulty) -> Token {
    let token = Token::random();
    let claim = backend.inner().claim(&key(), token, &Fingerprint::of(""), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Acquired);
    token
}

/// Lets the lease of every run end.
async fn lose_leases(backend: &Faulty) {
    backend.on(Command::Renew).always(Fault::LoseRequest);
    sleep(2 * LEASE).await;
}

async fn panicking() -> Result<String, Failure> {
    panic!("no paper")
}
