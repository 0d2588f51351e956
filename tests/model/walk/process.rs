//! A process that runs the crate's code on a clock of its own, which moves only when the walk moves it.

use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::advance,
};
use tower_idempotency::{
    Key, Record,
    protocol::{Completion, Lease, Protocol, Refusal, Terms},
};

use super::{
    RETENTION, TICK,
    wire::{REQUEST, ScriptedBackend, Sending, Wire},
};
use crate::{
    call::Flight,
    machine::Node,
    request::Client,
    scenario::Scenario,
    store::{self, Answer},
};

/// So many turns of a runtime are more than any reaction to a reply or to the clock takes.
const TURNS: usize = 24;

/// Longer than the first pause after an error; each further pause may be twice as long.
const PAUSE: Duration = Duration::from_millis(10);

/// How far a request has come, as its client and the walk see it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// While its handler runs.
    pub(super) lease: Option<Lease<ScriptedBackend>>,
    pub(super) client: Option<Client>,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) condition: Node,
    /// Ticks that have passed while it stood still.
    pub(super) missed: u32,
    errors: u32,
    protocol: Arc<Protocol<ScriptedBackend>>,
    wire: Arc<Mutex<Wire>>,
    runtime: Runtime,
}

impl Process {
    pub(super) fn new(node: usize, wire: &Arc<Mutex<Wire>>, scenario: &Scenario) -> Self {
        let terms = Terms {
            lease: TICK * u32::from(store::LEASE),
            retention: RETENTION,
            max_run: RETENTION,
            backend_timeout: TICK * 2,
            at_most_once: scenario.at_most_once,
        };
        let backend = ScriptedBackend { node, wire: Arc::clone(wire), shared: scenario.shared };
        Self {
            condition: Node::Up,
            missed: 0,
            errors: 0,
            protocol: Arc::new(Protocol::new(Arc::new(backend), terms)),
            wire: Arc::clone(wire),
            runtime: Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime"),
        }
    }

    /// Lets everything that can go on go on, until all of it waits again.
    pub(super) fn settle(&self) {
        self.after(Duration::ZERO);
    }

    pub(super) fn ticks(&self, ticks: u32) {
        self.after(TICK * ticks);
    }

    /// Lets the pause pass that follows an error.
    pub(super) fn pause_after_error(&mut self) {
        self.settle();
        self.after(PAUSE * 2_u32.pow(self.errors));
        self.errors += 1;
    }

    /// Goes on after it stood still, with what came in the meantime.
    pub(super) fn resume(&mut self, replies: Vec<Sending>) {
        let errors = replies.iter().any(|sending| sending.flight == Flight::Replied(Answer::Error));
        self.condition = Node::Up;
        let missed = mem::take(&mut self.missed);
        // Handed over from within the runtime, all of them are read before anything that one of them leads to: what is
        // woken from without goes into another queue, and waits there until the runtime's own one is empty.
        self.after_work(|| replies.into_iter().for_each(Sending::deliver), TICK * missed);
        if errors {
            self.pause_after_error();
        }
    }

    fn after(&self, time: Duration) {
        self.after_work(|| (), time);
    }

    /// Does `work` in the runtime, and lets everything go on as of `time` later.
    fn after_work(&self, work: impl FnOnce(), time: Duration) {
        self.runtime.block_on(async {
            work();
            if time > Duration::ZERO {
                advance(time).await;
            }
            for _ in 0..TURNS {
                yield_now().await;
            }
        });
    }

    pub(super) fn arrive(&self, request: u8, progress: &Arc<Mutex<Progress>>) {
        let (protocol, wire, progress) = (Arc::clone(&self.protocol), Arc::clone(&self.wire), Arc::clone(progress));
        self.spawn(request, async move {
            let fingerprint = wire.lock().expect("no thread panics").fingerprint(request);
            let claimed = protocol.claim(&Key::new("", "key"), &fingerprint).await;
            let mut progress = progress.lock().expect("no thread panics");
            match claimed {
                Ok(lease) => progress.lease = Some(lease),
                Err(refusal) => progress.client = Some(refused(refusal, &wire)),
            }
        });
    }

    pub(super) fn handler_ends(&self, request: u8, progress: &Arc<Mutex<Progress>>, failed: bool) {
        let (wire, progress) = (Arc::clone(&self.wire), Arc::clone(progress));
        let lease = progress.lock().expect("no thread panics").lease.take().expect("the handler runs");
        self.spawn(request, async move {
            let client = if failed {
                lease.fail().await;
                Client::Failed
            } else {
                complete(request, lease, &wire).await
            };
            progress.lock().expect("no thread panics").client = Some(client);
        });
    }

    fn spawn(&self, request: u8, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(REQUEST.scope(request, work)));
        self.settle();
    }
}

async fn complete(request: u8, lease: Lease<ScriptedBackend>, wire: &Mutex<Wire>) -> Client {
    let (run, fingerprint) = {
        let mut wire = wire.lock().expect("no thread panics");
        (wire.name(lease.token()), wire.fingerprint(request))
    };
    match lease.complete(Record::value(&fingerprint, &[run.request, run.round])).await {
        Completion::Stored => Client::Stored(store::Record { run }),
        Completion::Unanswered => Client::NotStored,
        Completion::Superseded(record) => Client::Replayed(wire.lock().expect("no thread panics").run_of(&record)),
        Completion::Lost => Client::LeaseLost,
    }
}

fn refused(refusal: Refusal, wire: &Mutex<Wire>) -> Client {
    match refusal {
        Refusal::Replay(record) => Client::Replayed(wire.lock().expect("no thread panics").run_of(&record)),
        Refusal::InProgress => Client::Conflict { own: false },
        Refusal::Mismatch => Client::Mismatch,
        Refusal::CredentialsDiffer => unreachable!("no request carries credentials"),
        Refusal::Unavailable(_) => Client::Unavailable,
    }
}
