//! What the layer costs while a response is streamed through it: beside a bare router, by turns, in this process and over
//! loopback. And how much more memory is live meanwhile, which does not grow with the response.
//!
//! ```console
//! cargo bench --bench streaming
//! ```
//!
//! A response above the limit is 1 GiB, of which nothing is recorded in the end; those below are 512 KiB each, and are
//! recorded. Ratios are medians. Over loopback the time is that of the server's thread.

#[path = "../support/clock.rs"]
mod clock;
mod loopback;

use std::{alloc::System, convert::Infallible};

use axum::{Router, body::Body, extract::Request, routing::post};
use bytes::Bytes;
use http_body_util::BodyExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Builder;
use tokio_stream::iter;
use tower::ServiceExt;
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

use self::{
    clock::{median, thread_time},
    loopback::Server,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 5;
const FRAME: usize = 64 << 10;
const TOTAL: usize = 1 << 30;
/// The records that are kept, in bytes.
const KEPT: usize = 4 << 20;

/// So many requests, each of them for so many frames: 1 GiB in all.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    requests: usize,
    frames: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "1 GiB, above the limit", requests: 1, frames: TOTAL / FRAME },
    Load { name: "2,048 of 512 KiB, recorded", requests: 2048, frames: 8 },
];

/// What [`Load`] has taken: processor time in seconds, and how many bytes were live at most beyond those before.
#[derive(Debug, Clone, Copy)]
struct Cost {
    time: f64,
    live: usize,
}

fn main() {
    println!("| | bare, GiB/s | of bare's | live at most, bare | live at most |\n|---|---|---|---|---|");
    for load in LOADS {
        let (here, servers) = (routers(load), routers(load).map(Server::start));
        print_row(load, "in one process", |contender, round| in_process(&here[contender], load, round));
        print_row(load, "over loopback", |contender, round| servers[contender].play(load, round));
    }
}

fn print_row(load: Load, place: &str, measure: impl Fn(usize, usize) -> Cost) {
    let [mut times, mut ratios] = [const { Vec::new() }; 2];
    let mut live = [0; 2];
    for round in 0..ROUNDS {
        let [bare, guarded] = [0, 1].map(|contender| measure(contender, round));
        times.push(bare.time);
        ratios.push(bare.time / guarded.time);
        live = [live[0].max(bare.live), live[1].max(guarded.live)];
    }
    let [bare, guarded] = live.map(|bytes| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20)));
    let (time, ratio) = (median(times), median(ratios));
    println!("| {}, {place} | {:.1} | {ratio:.2} | {bare} | {guarded} |", load.name, 1.0 / time);
}

/// One that streams its responses, bare and behind a layer that keeps few of them.
fn routers(load: Load) -> [Router; 2] {
    let stream = move || iter((0..load.frames).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b'y'; FRAME]))));
    let router = Router::new().route("/export", post(move |_: Bytes| async move { Body::from_stream(stream()) }));
    let layer = IdempotencyLayer::new(MemoryBackend::with_limits(1000, KEPT));
    [router.clone(), router.layer(layer)]
}

fn in_process(router: &Router, load: Load, round: usize) -> Cost {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (start, mut live) = (thread_time(), Live::new());
        for number in 0..load.requests {
            let request = Request::post("http://localhost/export").header("x-idempotency-key", key(round, number));
            let response = router.clone().oneshot(request.body(Body::from("all")).unwrap()).await.unwrap();
            let (mut body, mut length) = (response.into_body(), 0);
            while let Some(frame) = body.frame().await {
                length += frame.unwrap().into_data().unwrap().len();
                live.look();
            }
            assert_eq!(length, load.frames * FRAME);
        }
        Cost { time: (thread_time() - start).as_secs_f64(), live: live.most }
    })
}

fn key(round: usize, number: usize) -> String {
    format!("{round}-{number}")
}

/// How much memory is live beyond what was at first.
struct Live {
    before: usize,
    most: usize,
}

impl Live {
    fn new() -> Self {
        Self { before: Self::now(), most: 0 }
    }

    fn now() -> usize {
        let stats = INSTRUMENTED_SYSTEM.stats();
        stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
    }

    fn look(&mut self) {
        self.most = self.most.max(Self::now().saturating_sub(self.before));
    }
}
