//! Plays a schedule: of all that is ready, a seed chooses what goes on.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    task::yield_now,
    time::{Instant, advance},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Rejection};

use crate::{
    gates::Gates,
    handler::{Ledger, handle},
    way::Behind,
};

/// Longer than any schedule.
const LEASE: Duration = Duration::from_secs(3600);
/// Longer than all waits and time-outs together.
const LONGEST: Duration = Duration::from_secs(120);

/// What came of a schedule.
#[derive(Debug)]
pub(crate) struct Aftermath {
    pub(crate) ledger: Ledger,
    pub(crate) answers: Vec<Answer>,
    /// Clients that are not answered, though they stay.
    pub(crate) unanswered: usize,
    pub(crate) live_runs: usize,
    pub(crate) busy_keys: usize,
    /// Whether the clock has moved far enough for a time-out.
    pub(crate) timed_out: bool,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) run: Option<usize>,
    pub(crate) rejection: Option<Rejection>,
    /// Told to the end, and not marked as not stored.
    pub(crate) stored: bool,
    pub(crate) body: Option<Bytes>,
}

struct Client {
    future: Pin<Box<dyn Future<Output = Answer>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

type Layered = IdempotencyLayer<Behind<Gates, MemoryBackend>>;

struct Player {
    dice: StdRng,
    gates: Gates,
    clients: Vec<Client>,
    answers: Vec<Answer>,
    begin: Instant,
}

pub(crate) async fn play(seed: u64) -> Aftermath {
    let mut dice = StdRng::seed_from_u64(seed);
    let (gates, at_most_once) = (Gates::default(), dice.random_bool(0.2));
    let ledger = Ledger::open(seed, at_most_once);
    let layers = layers(&mut dice, &gates, at_most_once);
    let count = dice.random_range(2..=4);
    let clients = (0..count).map(|_| client(&layers[dice.random_range(0..layers.len())], &gates, &ledger)).collect();
    let mut player = Player { dice, gates, clients, answers: Vec::new(), begin: Instant::now() };
    player.shuffle().await;
    let timed_out = player.begin.elapsed() >= Duration::from_millis(400);
    player.finish(&layers).await;
    Aftermath {
        ledger,
        answers: player.answers,
        unanswered: player.clients.len(),
        live_runs: layers.iter().map(|layer| layer.runs().len()).sum(),
        busy_keys: layers.iter().map(IdempotencyLayer::busy_keys).sum(),
        timed_out,
    }
}

/// One or two nodes over one backend.
fn layers(dice: &mut StdRng, gates: &Gates, at_most_once: bool) -> Vec<Layered> {
    let memory = MemoryBackend::with_limits(64, 1 << 16);
    let backend = Behind { way: gates.clone(), backend: memory, local: dice.random_bool(0.5) };
    let wait = dice.random_bool(0.6).then(|| Duration::from_secs(10));
    let layer = || {
        let layer = IdempotencyLayer::new(backend.clone()).lease(LEASE);
        let layer = if at_most_once { layer.at_most_once() } else { layer };
        if let Some(max) = wait { layer.wait(max) } else { layer }
    };
    (0..dice.random_range(1..=2)).map(|_| layer()).collect()
}

fn client(layer: &Layered, gates: &Gates, ledger: &Ledger) -> Client {
    let (gates, ledger) = (gates.clone(), ledger.clone());
    let service = layer.layer(service_fn(move |_| handle(gates.clone(), ledger.clone())));
    let request = Request::post("/").header("idempotency-key", "key").body(Full::from(Bytes::from_static(b"once")));
    let future = Box::pin(async move {
        let Ok(response) = service.oneshot(request.expect("a request")).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
        Answer {
            run: head.headers.get("x-run").and_then(|run| run.to_str().ok()?.parse().ok()),
            rejection: head.extensions.get().copied(),
            stored: body.is_some() && !head.headers.contains_key("idempotency-stored"),
            body,
        }
    });
    Client { future, woken: Arc::new(Woken(AtomicBool::new(true))) }
}

impl Player {
    /// Lets things go on in any order, for a while.
    async fn shuffle(&mut self) {
        for _ in 0..self.dice.random_range(10..120) {
            match self.dice.random_range(0..100) {
                0..40 => self.poll_one(),
                40..80 => drop(self.gates.open_one(&mut self.dice)),
                80..96 => yield_now().await,
                96 | 97 if self.dice.random_bool(0.3) => advance(Duration::from_millis(450)).await,
                98 if !self.clients.is_empty() => {
                    let leaves = self.dice.random_range(0..self.clients.len());
                    drop(self.clients.swap_remove(leaves));
                }
                _ => {}
            }
        }
    }

    /// Lets everything go on until it is over.
    async fn finish(&mut self, layers: &[Layered]) {
        let is_busy = |layer: &Layered| !layer.runs().is_empty() || layer.busy_keys() > 0;
        let mut idle = 0;
        while !self.clients.is_empty() || layers.iter().any(is_busy) {
            let opened = self.gates.open_one(&mut self.dice);
            (0..self.clients.len()).for_each(|_| self.poll_one());
            yield_now().await;
            idle = if opened { 0 } else { idle + 1 };
            if idle > 20 {
                if self.begin.elapsed() > LONGEST {
                    return;
                }
                advance(Duration::from_millis(250)).await;
                idle = 10;
            }
        }
    }

    /// Polls one of the clients that have been woken.
    fn poll_one(&mut self) {
        let woken: Vec<_> =
            (0..self.clients.len()).filter(|&number| self.clients[number].woken.0.load(Ordering::Acquire)).collect();
        if woken.is_empty() {
            return;
        }
        let number = woken[self.dice.random_range(0..woken.len())];
        let client = &mut self.clients[number];
        client.woken.0.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&client.woken));
        if let Poll::Ready(answer) = client.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            drop(self.clients.swap_remove(number));
            self.answers.push(answer);
        }
    }
}
