//! Rounds of load, and what is held at rest after each.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    time::{Instant, sleep, timeout},
};
use tower_idempotency::BoxBackend;

use crate::{
    gauges::GAUGES,
    held::{Counts, Memory, resident},
    load::{Tally, load, quiet_own_panics},
    service::Service,
};

/// After the first, which warms up: caches and tables get as large as they will be.
const ROUNDS: u32 = 8;
const QUARTER: usize = 2;

/// What the memory at rest may grow by from the first quarter to the last. Buffers that live as long as a runtime come
/// and go by some kilobytes; what every request leaks is more than that within seconds.
const BYTES: i64 = 32 << 10;
const BLOCKS: i64 = 60;

/// How long everything may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loads a service over the backend that `make` makes, which also says how to tell that nothing is stored any more.
pub(crate) fn soak<M, E>(name: &str, length: Duration, make: M)
where
    M: AsyncFnOnce() -> (BoxBackend, E),
    E: AsyncFn() -> bool,
{
    quiet_own_panics();
    LazyLock::force(&GAUGES);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let before = come_to_rest().await;
        let (backend, is_empty) = make().await;
        let service = Service::start(backend).await;
        play(name, &service, length, is_empty).await;
        service.stop().await;
        rest_at(before).await;
    });
}

async fn play(name: &str, service: &Service, length: Duration, is_empty: impl AsyncFn() -> bool) {
    let (tally, round) = (Arc::new(Tally::default()), length / (ROUNDS + 1));
    load(service, &tally, round).await;
    let at_rest = come_to_rest().await;
    let mut memories = Vec::new();
    for number in 1..=ROUNDS {
        load(service, &tally, round).await;
        drain(service).await;
        rest_at(at_rest).await;
        until("what is stored expires", &is_empty).await;
        assert_nothing_is_live(service);
        let memory = Memory::now();
        let (played, resident) = (tally.sum(), resident().map_or_else(|| "unknown".into(), |size| size.to_string()));
        println!("{name} {number}: {played} played, {memory:?}, resident KiB: {resident}, {at_rest:?}");
        memories.push(memory);
    }
    tally.conclude();
    assert_flat(&memories);
}

async fn drain(service: &Service) {
    let drain = async {
        for (_, layer) in &service.layers {
            layer.runs().drain().await;
        }
        service.messages.runs().drain().await;
    };
    timeout(PATIENCE, drain).await.expect("the runs end");
}

fn assert_nothing_is_live(service: &Service) {
    for (name, layer) in &service.layers {
        assert_eq!((layer.runs().len(), layer.busy_keys()), (0, 0), "{name}");
    }
    assert!(GAUGES.len() > 0, "the gauges are heard of");
    assert_eq!(GAUGES.raised(), [""; 0]);
}

/// The least of a quarter: what is held for a moment is in some of its points, what has leaked is in all that follow.
fn assert_flat(memories: &[Memory]) {
    let least = |of: fn(&Memory) -> i64, quarter: &[Memory]| quarter.iter().map(of).min().unwrap();
    let grown = |of| least(of, &memories[memories.len() - QUARTER..]) - least(of, &memories[..QUARTER]);
    let [bytes, blocks] = [grown(|memory| memory.bytes), grown(|memory| memory.blocks)];
    println!("grown by {bytes} bytes in {blocks} blocks");
    assert!(bytes <= BYTES && blocks <= BLOCKS, "memory has grown by {bytes} bytes in {blocks} blocks");
}

/// Waits until the counts stay what they are.
async fn come_to_rest() -> Counts {
    let deadline = Instant::now() + PATIENCE;
    let mut counts = least().await;
    loop {
        let now = least().await;
        if now == counts {
            return now;
        }
        assert!(Instant::now() < deadline, "tasks, descriptors and threads come and go");
        counts = now;
    }
}

/// The counts at the moment at which they are least. Now and then a layer spawns a task that ends at once, to see to it
/// that the runtime lives.
async fn least() -> Counts {
    let mut least = Counts::now();
    for _ in 0..20 {
        sleep(Duration::from_millis(10)).await;
        least = least.min(Counts::now());
    }
    least
}

/// Waits until as much is held as `at_rest`.
async fn rest_at(at_rest: Counts) {
    let deadline = Instant::now() + PATIENCE;
    while Counts::now() != at_rest {
        assert!(Instant::now() < deadline, "{:?} are left, at rest there are {at_rest:?}", Counts::now());
        sleep(Duration::from_millis(5)).await;
    }
}

async fn until(what: &str, condition: &impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited for {PATIENCE:?} in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
