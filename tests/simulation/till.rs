//! Transactions: an effect of a handler that is stored in one step with the record of its run, or not at all.
//!
//! What [`commit`](Till::commit) does in that step is what `PostgresBackend` does: if the claim still has the run's token
//! and no record, the record and the effect, else nothing.

use std::{pin::pin, task, time::Duration};

use bytes::{BufMut, Bytes};
use rand::{RngExt, rngs::StdRng};
use tokio::time::sleep;
use tower_idempotency::{Backend, Entry as Stored, Fingerprint, Key, MemoryBackend, Ownership, Record, Run};

use crate::{
    handler::{Shared, lock, text},
    history::{History, millis},
    script::{Leaves, Response},
    stall::Pulse,
    world::Faulty,
};

/// What a transaction meets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    there: Duration,
    back: Duration,
    fate: Fate,
    /// Whether the server answers when it is asked what came of a commit that it has not answered.
    is_told_later: bool,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// An error, and it never reached the server.
    Lost,
    /// An error although it was done.
    Unanswered,
    /// An error, and it is done this much later. Who asks then waits for the transaction, too long.
    Late(Duration),
}

impl Order {
    pub(crate) fn draw(dice: &mut StdRng) -> Self {
        let fate = match dice.random_range(0..10) {
            0 => Fate::Lost,
            1 | 2 => Fate::Unanswered,
            3 => Fate::Late(millis(dice, 0, 60_000)),
            _ => Fate::Answered,
        };
        Self { there: millis(dice, 0, 50), back: millis(dice, 0, 50), fate, is_told_later: dice.random_bool(0.6) }
    }

    pub(crate) fn length(&self) -> Duration {
        self.there + self.back
    }

    pub(crate) fn longest_delay(&self) -> Duration {
        if let Fate::Late(delay) = self.fate { delay } else { Duration::ZERO }
    }
}

/// The server of the transactions: the backend's store, without the way to it.
#[derive(Debug, Clone)]
pub(crate) struct Till {
    memory: MemoryBackend,
    /// Knows the key of each token.
    backend: Faulty,
    pub(crate) ledger: Shared,
    retention: Duration,
}

/// What is stored for a run of the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Deed {
    pub(crate) number: usize,
    pub(crate) run: Run,
    pub(crate) response: Response,
}

impl Till {
    pub(crate) fn new(memory: MemoryBackend, backend: &Faulty, ledger: &Shared, history: &History) -> Self {
        Self { memory, backend: backend.clone(), ledger: ledger.clone(), retention: history.retention }
    }

    fn key(&self, run: &Run) -> Key {
        let claim = self.backend.log().into_iter().find(|sent| sent.token == Some(run.token()));
        claim.expect("a run has a claim").key
    }

    /// Commits `deed` and says whether it is known to be done.
    pub(crate) async fn commit(&self, order: Order, deed: Deed, pulse: &Pulse) -> bool {
        sleep(order.there).await;
        pulse.beats().await;
        let done = match order.fate {
            Fate::Answered => self.execute(&deed),
            Fate::Lost => false,
            Fate::Unanswered => self.execute(&deed) && order.is_told_later,
            Fate::Late(delay) => {
                let till = self.clone();
                tokio::spawn(async move {
                    sleep(delay).await;
                    till.execute(&deed);
                });
                false
            }
        };
        sleep(order.back).await;
        pulse.beats().await;
        done
    }

    /// The step: nothing happens in between.
    fn execute(&self, deed: &Deed) -> bool {
        let (key, token) = (self.key(&deed.run), deed.run.token());
        let Ok(Some(Stored::InProgress { fingerprint })) = at_once(self.memory.get(&key)) else { return false };
        // Which makes sure of the token; the record takes the place of the claim, whose deadline it is.
        if at_once(self.memory.renew(&key, token, Duration::from_secs(1))).ok() != Some(Ownership::Held) {
            return false;
        }
        let record = record(&fingerprint, deed.number, &deed.response);
        let stored = at_once(self.memory.complete(&key, token, &record, self.retention));
        assert_eq!(stored.ok(), Some(Ownership::Held), "nothing happens in between");
        let mut ledger = lock(&self.ledger);
        let now = ledger.now();
        let entry = &mut ledger.runs[deed.number];
        (entry.leaves, entry.effect) = (Leaves::Record, Some(now));
        true
    }
}

/// The memory of this process answers at once.
fn at_once<F: Future>(command: F) -> F::Output {
    match pin!(command).poll(&mut task::Context::from_waker(task::Waker::noop())) {
        task::Poll::Ready(answer) => answer,
        task::Poll::Pending => unreachable!("it never waits"),
    }
}

/// The record that the layer would make of `response`: `src/codec.rs` describes the layout.
fn record(fingerprint: &Fingerprint, run: usize, response: &Response) -> Record {
    let mut bytes = vec![1, 1];
    bytes.extend_from_slice(&fingerprint.to_bytes());
    bytes.put_u16(response.status.as_u16());
    bytes.put_u16(1);
    bytes.put_u16(u16::MAX);
    let number = run.to_string();
    for part in [&b"\0"[..], b"\x05", b"x-run", &[u8::try_from(number.len()).expect("few digits")]] {
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(number.as_bytes());
    bytes.extend_from_slice(&text(run, response));
    Record::from_bytes(Bytes::from(bytes)).expect("a record")
}
