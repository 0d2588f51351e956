//! A replay of what a `CachedBackend` has in memory, beside one from `MemoryBackend`.

use std::time::Duration;

use tokio::runtime::Builder;
use tower_idempotency::{Backend, CachedBackend, IdempotencyLayer, MemoryBackend};

use crate::{
    cases::{REQUEST, call, request, router},
    clock::{median, thread_time},
    distant::Distant,
};

const ROUNDS: usize = 201;
const REPLAYS: u32 = 1_000;

/// By turns, so that what else the machine does falls on both alike.
pub(crate) fn print() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let shared = Distant::new(MemoryBackend::new(), Duration::ZERO);
    let routers = [guarded(MemoryBackend::new()), guarded(CachedBackend::new(MemoryBackend::new(), shared))];
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (router, times) in routers.iter().zip(&mut times) {
            let requests: Vec<_> = (0..REPLAYS).map(|_| (router.clone(), request(Some("k"), REQUEST))).collect();
            let start = thread_time();
            for (router, request) in requests {
                runtime.block_on(call(router, request));
            }
            times.push((thread_time() - start).as_secs_f64() * 1e9 / f64::from(REPLAYS));
        }
    }
    let [memory, cached] = times.map(median);
    println!("replay, by turns: memory {memory:.0} ns, cached {cached:.0} ns, {:.2} times as long", cached / memory);
}

fn guarded(backend: impl Backend) -> axum::Router {
    router().layer(IdempotencyLayer::new(backend))
}
