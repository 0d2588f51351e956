//! The handler, its responses, and what it has done.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::gates::Gates;

/// One run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) live: bool,
    /// Its response is one that is recorded.
    pub(crate) kept: bool,
    /// It started beside another, or after one that was kept.
    pub(crate) wrong: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    book: Arc<Mutex<(StdRng, Vec<Entry>)>>,
    /// Whether every response is kept, whatever its status.
    at_most_once: bool,
}

impl Ledger {
    pub(crate) fn open(seed: u64, at_most_once: bool) -> Self {
        Self { book: Arc::new(Mutex::new((StdRng::seed_from_u64(seed), Vec::new()))), at_most_once }
    }

    fn lock(&self) -> MutexGuard<'_, (StdRng, Vec<Entry>)> {
        self.book.lock().expect("nothing panics under this lock")
    }

    pub(crate) fn runs(&self) -> Vec<Entry> {
        self.lock().1.clone()
    }

    /// The number of a run that starts, whether it succeeds, and how many frames it sends.
    fn start(&self) -> (usize, bool, usize) {
        let (dice, runs) = &mut *self.lock();
        let (succeeds, frames) = (dice.random_bool(0.6), dice.random_range(0..3));
        let wrong = runs.iter().any(|run| run.live || run.kept);
        runs.push(Entry { live: true, kept: succeeds || self.at_most_once, wrong });
        (runs.len() - 1, succeeds, frames)
    }

    fn end(&self, run: usize) {
        self.lock().1[run].live = false;
    }
}

pub(crate) async fn handle(gates: Gates, ledger: Ledger) -> Result<Response<Paced>, Infallible> {
    let (run, succeeds, frames) = ledger.start();
    gates.clone().pass().await;
    let status = if succeeds { StatusCode::CREATED } else { StatusCode::INTERNAL_SERVER_ERROR };
    // What gives the key back is over with its head.
    if !(succeeds || ledger.at_most_once) || frames == 0 {
        ledger.end(run);
    }
    let body = Paced { gates, ledger, run, left: frames, pass: None };
    Ok(Response::builder().status(status).header("x-run", run).body(body).expect("a response"))
}

/// A body of unknown length, whose frames come when it is their turn.
pub(crate) struct Paced {
    gates: Gates,
    ledger: Ledger,
    run: usize,
    left: usize,
    pass: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let gates = self.gates.clone();
        ready!(self.pass.get_or_insert_with(|| Box::pin(gates.pass())).as_mut().poll(cx));
        self.pass = None;
        self.left -= 1;
        if self.left == 0 {
            self.ledger.end(self.run);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("{};", self.run))))))
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.ledger.end(self.run);
    }
}
