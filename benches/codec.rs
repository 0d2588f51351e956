//! What it costs to write and to read the bytes of a record.
//!
//! ```console
//! cargo bench --bench codec
//! ```
//!
//! The records are those of responses with 0 to 32 header lines and bodies of 200 bytes to 100 KB. Only a layer writes
//! such a record: what writing costs is how much more first requests cost whose responses have more.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/clock.rs"]
mod clock;

use std::{future::ready, hint::black_box, time::Duration};

use axum::{Router, routing::post};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::runtime::{Builder, Runtime};
use tower_idempotency::{Backend, Entry, Fingerprint, IdempotencyLayer, Key, MemoryBackend, Record};

use self::{
    cases::{REQUEST, call, request},
    clock::ThreadTime,
};

/// Header lines and bytes of the body.
const SHAPES: [(usize, usize); 5] = [(0, 200), (8, 200), (32, 200), (8, 10_000), (8, 100_000)];

/// As most responses have; the rest have names that the layout does not know.
const COMMON: [(HeaderName, &str); 4] = [
    (header::CONTENT_TYPE, "application/json"),
    (header::CACHE_CONTROL, "no-store"),
    (header::ETAG, "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
    (header::VARY, "accept-encoding"),
];

fn headers(lines: usize) -> HeaderMap {
    let rare = (0..).map(|number| (format!("x-line-{number}").parse().expect("a name"), "of a service of its own"));
    COMMON.into_iter().chain(rare).take(lines).map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

/// A layer in front of a handler that answers with a response of that shape, and its records.
struct Writer {
    router: Router,
    backend: MemoryBackend,
    runtime: Runtime,
}

impl Writer {
    fn new(lines: usize, length: usize) -> Self {
        let (headers, body) = (headers(lines), Bytes::from(vec![b'y'; length]));
        let handler = post(move |_: Bytes| ready((headers, body)));
        let backend = MemoryBackend::new();
        let router = Router::new().route("/payments", handler).layer(IdempotencyLayer::new(backend.clone()));
        Self { router, backend, runtime: Builder::new_current_thread().enable_all().build().expect("a runtime") }
    }

    fn answer(&self, key: &str) -> Bytes {
        self.runtime.block_on(call(self.router.clone(), request(Some(key), REQUEST)))
    }

    fn record(&self, key: &str) -> Record {
        match self.runtime.block_on(self.backend.get(&Key::new("", key))) {
            Ok(Some(Entry::Completed(record))) => record,
            other => panic!("no record: {other:?}"),
        }
    }
}

fn responses(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("record");
    for (lines, length) in SHAPES {
        let shape = format!("{lines} lines, {length} bytes");
        let writer = Writer::new(lines, length);
        writer.answer("k");
        let record = writer.record("k").to_bytes();
        println!("{shape}: a record of {} bytes", record.len());
        group.bench_function(BenchmarkId::new("read", &shape), |bencher| {
            bencher.iter(|| Record::from_bytes(black_box(&record).clone()).unwrap());
        });
        let mut keys = (0_u64..).map(|number| format!("k-{number}"));
        group.bench_function(BenchmarkId::new("first request", &shape), |bencher| {
            let key = || keys.next().unwrap_or_default();
            bencher.iter_batched(key, |key| writer.answer(&key), BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("replay", &shape), |bencher| bencher.iter(|| writer.answer("k")));
    }
    group.finish();
}

fn values(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("value");
    let fingerprint = Fingerprint::of("a message");
    for length in [16, 300, 10_000] {
        let value = vec![7; length];
        let record = Record::value(&fingerprint, &value).to_bytes();
        group.bench_function(BenchmarkId::new("write", length), |bencher| {
            bencher.iter(|| Record::value(&fingerprint, black_box(&value)));
        });
        group.bench_function(BenchmarkId::new("read", length), |bencher| {
            bencher.iter(|| Record::from_bytes(black_box(&record).clone()).unwrap().as_value());
        });
    }
    group.finish();
}

criterion_group! {
    name = codec;
    config = Criterion::default().with_measurement(ThreadTime).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = responses, values
}
criterion_main!(codec);
