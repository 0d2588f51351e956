//! A service: axum with the layer, over the network.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{Extension, Router, http::StatusCode, routing::post, serve::Listener};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use tower_idempotency::{IdempotencyLayer, Run};
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    plan::{LEASE, Plan, TIMEOUT, millis},
    wire::Remote,
};

pub(crate) const PORT: u16 = 80;

/// What handlers have done, and clients been told.
#[derive(Debug, Clone)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug)]
pub(crate) struct Book {
    dice: StdRng,
    pub(crate) runs: Vec<Entry>,
    pub(crate) answers: Vec<Answer>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) service: usize,
    pub(crate) start: Duration,
    pub(crate) end: Option<Duration>,
    /// It failed, so that its key was given back.
    pub(crate) failed: bool,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) key: usize,
    pub(crate) run: usize,
    pub(crate) stored: bool,
}

impl Ledger {
    pub(crate) fn open(seed: u64) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(Book { dice, runs: Vec::new(), answers: Vec::new() })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nothing panics under this lock")
    }

    /// A run, and how long it takes.
    fn start(&self, key: &str, service: usize) -> (usize, Duration) {
        let mut book = self.lock();
        book.runs.push(Entry { key: key.to_owned(), service, start: now(), end: None, failed: false });
        let dice = &mut book.dice;
        let takes = if dice.random_bool(0.7) { millis(dice, 0, 1_000) } else { millis(dice, 0, 6_000) };
        (book.runs.len() - 1, takes)
    }

    /// Ends a run. Whether it failed.
    fn end(&self, run: usize) -> bool {
        let mut book = self.lock();
        let failed = book.dice.random_bool(0.15);
        let entry = &mut book.runs[run];
        (entry.end, entry.failed) = (Some(now()), failed);
        failed
    }
}

pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().expect("in a simulation")
}

/// Serves until the host crashes.
pub(crate) async fn serve(plan: Arc<Plan>, ledger: Ledger, number: usize) -> turmoil::Result {
    let layer = IdempotencyLayer::new(Remote).lease(LEASE).backend_timeout(TIMEOUT);
    let layer = match plan.wait {
        Some(max) => layer.wait(max),
        None => layer,
    };
    let handler = move |Extension(run): Extension<Run>| async move {
        let (entry, takes) = ledger.start(run.key(), number);
        sleep(takes).await;
        let failed = ledger.end(entry);
        (if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CREATED }, entry.to_string())
    };
    let app = Router::new().route("/orders", post(handler)).layer(layer);
    axum::serve(Door(TcpListener::bind(("0.0.0.0", PORT)).await?), app).await?;
    Ok(())
}

struct Door(TcpListener);

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Ok(accepted) = self.0.accept().await {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
