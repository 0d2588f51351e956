//! What is counted: the same request, by what the layer makes of it.

use std::{
    alloc::System,
    future::{Future, poll_fn},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use axum::Router;
use sha2::{Digest, Sha256};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{runtime::Builder, spawn, task::yield_now};
use tower::layer::util::Identity;
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Outcome};

use crate::cases::{self, REQUEST, call, hanging, request, router};

/// Adds some twenty instructions to an allocation and its end.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// As they are printed. The first is what others are compared with.
pub(crate) const CASES: [&str; 6] = ["bare", "no-op", "no-key", "first", "replay", "conflict"];

/// Blocks of SHA-256 alone, to know what one costs.
pub(crate) const HASH: &str = "hash";

/// How many requests are counted: an average over so many forgets where a table grows.
pub(crate) const COUNT: u32 = 2000;

/// Before, so many that nothing is done for the first time.
const WARM: u32 = 1000;

/// The function in which is counted, as callgrind knows it.
pub(crate) const MEASURED: &str = "*case::measured*";

/// Runs `case`: [`COUNT`] requests of it, or so many blocks, in [`measured`]. Returns the number of allocations there.
pub(crate) fn run(case: &str) -> usize {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match case {
            HASH => blocks().await,
            case => requests(case).await,
        }
    })
}

async fn blocks() -> usize {
    let blocks = vec![b'x'; 64 * COUNT as usize];
    count(async { black_box(Sha256::digest(&blocks)) }).await
}

async fn requests(case: &str) -> usize {
    let guarded = |router: Router| router.layer(IdempotencyLayer::new(MemoryBackend::new()));
    let (router, outcome): (Router, _) = match case {
        "bare" => (router(), None),
        "no-op" => (router().layer(Identity::new()), None),
        "no-key" => (guarded(router()), None),
        "first" => (guarded(router()), Some(Outcome::Executed)),
        "replay" => (guarded(router()), Some(Outcome::Replayed)),
        "conflict" => (guarded(hanging()), Some(Outcome::Conflict)),
        other => panic!("no case is called {other}"),
    };
    let ask = |number: u32| {
        let number = if outcome == Some(Outcome::Executed) { number } else { 0 };
        request(outcome.map(|_| format!("k-{number:08}")).as_deref(), REQUEST)
    };
    if outcome == Some(Outcome::Conflict) {
        spawn(call(router.clone(), ask(0)));
        yield_now().await;
    }
    let mut allocations = 0;
    for number in 0..WARM + COUNT {
        let answer = call(router.clone(), ask(number));
        if number < WARM {
            answer.await;
        } else {
            allocations += count(answer).await;
        }
    }
    assert_eq!(cases::outcome(&router, ask(WARM + COUNT)).await, outcome, "{case}");
    allocations
}

/// Counts what `work` does; not how it came to be, nor the instructions of other threads meanwhile.
async fn count<T>(work: impl Future<Output = T>) -> usize {
    let before = INSTRUMENTED_SYSTEM.stats();
    let mut work = pin!(work);
    poll_fn(|cx| measured(work.as_mut(), cx)).await;
    let done = INSTRUMENTED_SYSTEM.stats() - before;
    done.allocations + done.reallocations
}

#[inline(never)]
fn measured<F: Future>(work: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    work.poll(cx)
}
