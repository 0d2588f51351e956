//! Each answer of the layer, with bodies of all sizes.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::Request, routing::post};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion};
use tokio::{
    join,
    runtime::{Builder, Runtime},
    sync::Notify,
    task::yield_now,
};
use tower::layer::util::Identity;
use tower_idempotency::{FingerprintPolicy, IdempotencyLayer, MemoryBackend, Outcome};

use crate::{
    cases::{REQUEST, answering, call, hanging, outcome, request, router},
    clock::ThreadTime,
};

/// In bytes.
const SIZES: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

type Layer = IdempotencyLayer<MemoryBackend>;

fn layer() -> Layer {
    IdempotencyLayer::new(MemoryBackend::new())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A key that was not used before.
fn keys() -> impl FnMut() -> String {
    let mut numbers = 0_u64..;
    move || format!("k-{}", numbers.next().unwrap_or_default())
}

fn body(size: usize) -> Bytes {
    Bytes::from(vec![b'x'; size])
}

/// A table: one row for each case, and a column for each size.
struct Table<'a> {
    group: BenchmarkGroup<'a, ThreadTime>,
    runtime: Runtime,
}

impl Table<'_> {
    fn measure(&mut self, case: &str, size: usize, router: &Router, request: impl FnMut() -> Request) {
        self.measure_work(case, size, request, |request| call(router.clone(), request));
    }

    fn measure_work<I, F: Future<Output = Bytes>>(
        &mut self,
        case: &str,
        size: usize,
        mut input: impl FnMut() -> I,
        work: impl Fn(I) -> F,
    ) {
        let runtime = &self.runtime;
        self.group.bench_function(BenchmarkId::new(case, size), |bencher| {
            bencher.iter_batched(&mut input, |input| runtime.block_on(work(input)), BatchSize::SmallInput);
        });
    }
}

/// Requests of all sizes, whose bodies are read and hashed.
pub(crate) fn requests(criterion: &mut Criterion<ThreadTime>) {
    let mut table = Table { group: criterion.benchmark_group("request"), runtime: runtime() };
    table.measure("no-op layer", REQUEST.len(), &router().layer(Identity::new()), || request(None, REQUEST));
    for size in SIZES {
        let body = body(size);
        table.measure("bare", size, &router(), || request(None, body.clone()));
        table.measure("no key", size, &router().layer(layer()), || request(None, body.clone()));
        guarded(&mut table, "", layer, &body);
        guarded(&mut table, ", no fingerprint", || layer().fingerprint(FingerprintPolicy::none()), &body);
    }
    table.group.finish();
}

fn guarded(table: &mut Table<'_>, which: &str, layer: impl Fn() -> Layer, body: &Bytes) {
    let checking = runtime();
    let mut measure = |case: &str, router: &Router, key: &mut dyn FnMut() -> String, expected| {
        table.measure(&format!("{case}{which}"), body.len(), router, || request(Some(&key()), body.clone()));
        let found = checking.block_on(outcome(router, request(Some(&key()), body.clone())));
        assert_eq!(found, Some(expected), "{case}");
    };
    measure("first", &router().layer(layer()), &mut keys(), Outcome::Executed);
    let replays = router().layer(layer());
    runtime().block_on(call(replays.clone(), request(Some("k"), body.clone())));
    measure("replay", &replays, &mut || "k".into(), Outcome::Replayed);

    let busy = hanging().layer(layer());
    let runtime = runtime();
    let running = runtime.spawn(call(busy.clone(), request(Some("k"), body.clone())));
    runtime.block_on(yield_now());
    measure("conflict", &busy, &mut || "k".into(), Outcome::Conflict);
    running.abort();

    wait(table, &format!("first and wait{which}"), layer(), body);
}

/// A run, and a duplicate that waits for it and gets its record.
fn wait(table: &mut Table<'_>, case: &str, layer: Layer, body: &Bytes) {
    let gate = Arc::new(Notify::new());
    let handler = {
        let gate = Arc::clone(&gate);
        post(move |_: Bytes| async move {
            gate.notified().await;
            "done"
        })
    };
    let router = Router::new().route("/payments", handler).layer(layer.wait(Duration::from_secs(10)));
    let mut keys = keys();
    let both = || {
        let key = keys();
        [(); 2].map(|()| request(Some(&key), body.clone()))
    };
    table.measure_work(case, body.len(), both, |[first, duplicate]| {
        let (first, duplicate, gate) = (call(router.clone(), first), call(router.clone(), duplicate), &gate);
        async move {
            // In this order: one runs, the other one waits, and then the handler answers both.
            let (first, duplicate, ()) = join!(biased; first, duplicate, async { gate.notify_one() });
            assert_eq!(first, duplicate);
            duplicate
        }
    });
}

/// Responses of all sizes, which are recorded.
pub(crate) fn responses(criterion: &mut Criterion<ThreadTime>) {
    let mut table = Table { group: criterion.benchmark_group("response"), runtime: runtime() };
    for size in SIZES {
        let bare = answering(body(size));
        let guarded = bare.clone().layer(layer());
        let mut keys = keys();
        table.measure("bare", size, &bare, || request(None, REQUEST));
        table.measure("first", size, &guarded, || request(Some(&keys()), REQUEST));
        table.measure("replay", size, &guarded, || request(Some("k"), REQUEST));
    }
    table.group.finish();
}
