//! Mixed load over real sockets, and what is held after it: memory, tasks, timers, threads, descriptors, keys.
//!
//! The load comes in rounds. After each of them everything is brought to rest: clients gone, runs drained, records
//! expired. What is held then must not grow from the first quarter of the rounds to the last.
//!
//! `SOAK_SECONDS=3600` makes the load of each test take an hour:
//!
//! ```console
//! SOAK_SECONDS=3600 cargo test --release --all-features --test soak -- --nocapture
//! ```
#![allow(clippy::print_stdout, reason = "the figures are the point")]

#[path = "../behaviour/mod.rs"]
#[allow(dead_code, unused_macros, reason = "`servers` needs its support")]
mod behaviour;
mod caller;
mod gauges;
mod held;
mod load;
#[path = "../redis/support/server.rs"]
#[allow(dead_code, reason = "the server is neither killed nor stopped here")]
mod redis_server;
mod rounds;
mod scenario;
#[path = "../servers/mod.rs"]
#[allow(unused_imports, reason = "the service under load is another")]
mod servers;
mod service;
mod timers;

use std::{
    alloc::System,
    env,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tower_idempotency::{Backend, BoxBackend, Fingerprint, Key, MemoryBackend, RedisBackend, Token};

use crate::{redis_server::Server, rounds::soak};

/// Counts what is allocated and not yet freed, in all threads.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is counted is counted for the whole process, so the tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the load of one test takes, without the rests.
fn length() -> Duration {
    let seconds = env::var("SOAK_SECONDS").map(|text| text.parse().expect("SOAK_SECONDS is a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(1))
}

#[test]
fn over_memory_nothing_is_left_of_a_mixed_load() {
    let _turn = turn();
    soak("memory", length(), async || {
        // So few that the bounds are reached: then records leave before their time.
        let backend = MemoryBackend::with_limits(ENTRIES, 128 << 10);
        fill(&backend).await;
        let store = backend.clone();
        let is_empty = async move || {
            sweep(&store).await;
            store.is_empty()
        };
        (BoxBackend::new(backend), is_empty)
    });
}

const ENTRIES: usize = 600;

/// Makes the tables as large as they can get.
async fn fill(store: &MemoryBackend) {
    let claims: Vec<_> = (0..ENTRIES).map(|_| (Key::from_bytes(rand::random()), Token::random())).collect();
    for (key, token) in &claims {
        claim(store, key, *token).await;
    }
    for (key, token) in &claims {
        store.release(key, *token).await.expect("it is memory");
    }
}

/// Frees what has expired, which happens bit by bit as claims are stored.
async fn sweep(store: &MemoryBackend) {
    for _ in 0..ENTRIES {
        let (key, token) = (Key::from_bytes(rand::random()), Token::random());
        claim(store, &key, token).await;
        store.release(&key, token).await.expect("it is memory");
    }
}

async fn claim(store: &MemoryBackend, key: &Key, token: Token) {
    store.claim(key, token, &Fingerprint::of("soak"), Duration::from_secs(1)).await.expect("there is room");
}

#[test]
fn over_redis_nothing_is_left_of_a_mixed_load() {
    let _turn = turn();
    let server = Server::start(&[]);
    soak("redis", length(), async || {
        let backend = RedisBackend::connect(&*server.url()).await.expect("the server is up");
        (BoxBackend::new(backend), async || server.ask::<u64>("DBSIZE") == 0)
    });
}
