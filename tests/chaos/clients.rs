//! Those who pay: many clients that send each order several times, to any application, until it is answered.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::{RngExt, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    application::{FAIL, RUN},
    plan::{LEASE, LONGEST_RUN, Order, millis},
};

/// How long a client waits for an answer before it leaves and sends the order again, unless it is an impatient one.
const PATIENCE: Duration = Duration::from_secs(4);

/// At the end, when all processes are up: a run may have to end or to lose its lease first. The rest is for a busy
/// machine.
const UNTIL_STUCK: Duration = LEASE.saturating_add(LONGEST_RUN).saturating_add(Duration::from_secs(15));

/// What has been answered to the orders with one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// The different answers that were said to be on record.
    pub(crate) recorded: Vec<String>,
    /// How often one of them was not marked as a replay.
    pub(crate) firsts: usize,
    /// Whether the key was answered at the end.
    pub(crate) settled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Clients {
    /// The ports of the proxies before the applications.
    ports: Vec<u16>,
    /// The share of requests whose clients leave before long.
    impatience: f64,
    pub(crate) stop: AtomicBool,
    next: AtomicU64,
    pub(crate) requests: AtomicU64,
    /// By status; 0: no answer.
    pub(crate) statuses: Mutex<HashMap<u16, u64>>,
    /// Answers that said that they were not on record.
    pub(crate) unstored: AtomicU64,
    pub(crate) answers: Mutex<HashMap<String, Answers>>,
}

type Wire = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn wire() -> Wire {
    Client::builder(TokioExecutor::new()).build_http()
}

impl Clients {
    pub(crate) fn new(ports: Vec<u16>, impatience: f64) -> Self {
        Self { ports, impatience, ..Self::default() }
    }

    /// Gives one order after the other, until it is told to stop.
    pub(crate) async fn order_again_and_again(&self, wire: Wire, mut dice: StdRng) {
        while !self.stop.load(Ordering::SeqCst) {
            let key = format!("order-{}", self.next.fetch_add(1, Ordering::Relaxed));
            self.answers.lock().unwrap().insert(key.clone(), Answers::default());
            let order = Order::draw(&mut dice);
            let copies = (0..order.copies).map(|_| {
                let dice: StdRng = rand::SeedableRng::seed_from_u64(dice.random());
                self.pursue(&wire, &key, order.run, dice)
            });
            let copies = all(copies);
            match order.leave_after {
                Some(time) => drop(timeout(time, copies).await),
                None => copies.await,
            }
        }
    }

    /// Sends an order until it is answered for good, or the clients are told to stop.
    async fn pursue(&self, wire: &Wire, key: &str, run: Duration, mut dice: StdRng) {
        while !self.stop.load(Ordering::SeqCst) {
            let fails = dice.random_bool(0.03);
            let at = dice.random_range(0..self.ports.len());
            let patience = if dice.random_bool(self.impatience) { millis(&mut dice, 2, 500) } else { PATIENCE };
            if self.send(wire, at, key, run, fails, patience).await {
                return;
            }
            sleep(millis(&mut dice, 10, 80)).await;
        }
    }

    /// Asks for every key once more, when there are no faults any more: each has to be answered in time.
    pub(crate) async fn settle(&self, wire: &Wire, askers: usize) {
        let keys: Vec<String> = self.answers.lock().unwrap().keys().cloned().collect();
        let next = AtomicU64::new(0);
        let asker = async || {
            while let Some(key) = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).ok().and_then(|at| keys.get(at))
            {
                self.settle_one(wire, key).await;
            }
        };
        all((0..askers).map(|_| asker())).await;
    }

    async fn settle_one(&self, wire: &Wire, key: &str) {
        let deadline = Instant::now() + UNTIL_STUCK;
        while Instant::now() < deadline {
            let at = rand::random_range(0..self.ports.len());
            if self.send(wire, at, key, Duration::ZERO, false, PATIENCE).await {
                self.answers.lock().unwrap().entry(key.to_owned()).or_default().settled = true;
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends an order once. Whether it was answered for good.
    async fn send(&self, wire: &Wire, at: usize, key: &str, run: Duration, fails: bool, patience: Duration) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(patience, async {
            let answer = wire.request(order(self.ports[at], key, run, fails)).await.ok()?;
            let (head, body) = answer.into_parts();
            Some(Response::from_parts(head, body.collect().await.ok()?.to_bytes()))
        });
        let answer = answer.await.ok().flatten();
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        *self.statuses.lock().unwrap().entry(status).or_default() += 1;
        answer.is_some_and(|answer| self.note(key, &answer))
    }

    /// Whether an answer is for good.
    fn note(&self, key: &str, answer: &Response<Bytes>) -> bool {
        let refusals =
            [StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR].as_slice();
        if refusals.contains(&answer.status()) {
            return false;
        }
        assert_eq!(answer.status(), StatusCode::CREATED, "{answer:?}");
        if answer.headers().contains_key("idempotency-stored") {
            self.unstored.fetch_add(1, Ordering::Relaxed);
            return false; // it says that it may not be the last word
        }
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        let mut answers = self.answers.lock().unwrap();
        let answers = answers.entry(key.to_owned()).or_default();
        answers.firsts += usize::from(!answer.headers().contains_key("idempotent-replayed"));
        if !answers.recorded.contains(&body) {
            answers.recorded.push(body);
        }
        true
    }
}

fn order(port: u16, key: &str, run: Duration, fails: bool) -> Request<Full<Bytes>> {
    let mut order = Request::post(format!("http://127.0.0.1:{port}/payments"))
        // The same, whichever application it is sent to.
        .header("host", "example.com")
        .header("x-idempotency-key", key)
        .header(RUN, run.as_millis().to_string());
    if fails {
        order = order.header(FAIL, "true");
    }
    order.body(Full::from(r#"{"amount":100}"#)).unwrap()
}

/// Does all of it at the same time, in this task.
async fn all<F: Future<Output = ()>>(parts: impl Iterator<Item = F>) {
    let mut parts: Vec<_> = parts.map(|part| Some(Box::pin(part))).collect();
    std::future::poll_fn(|cx| {
        for part in &mut parts {
            if part.as_mut().is_some_and(|part| part.as_mut().poll(cx).is_ready()) {
                *part = None;
            }
        }
        if parts.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
