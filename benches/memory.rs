//! What the memory backend costs alone: a new key against 10,000 and 1,000,000 live records of 300 bytes, and a replay,
//! from one thread and from four.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tower_idempotency::{Backend, Claim, Fingerprint, Key, MemoryBackend, Record, Token};

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(24 * 3600);
const PREAMBLE: usize = 50;

/// The answer of a command that never waits.
fn ready<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("commands of the memory backend are ready at once"),
    }
}

/// The `number`th key of `thread`: distinct, and as unordered as a digest.
fn key(thread: u64, number: u64) -> Key {
    let mut bytes = [0; Key::LEN];
    let mixed = (number ^ (thread << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    Key::from_bytes(bytes)
}

struct Load {
    backend: MemoryBackend,
    fingerprint: Fingerprint,
    record: Record,
}

impl Load {
    fn new() -> Self {
        let fingerprint = Fingerprint::of("a request");
        let record = Record::value(&fingerprint, &[7; 300 - PREAMBLE]);
        Self { backend: MemoryBackend::with_limits(4_000_000, 4 << 30), fingerprint, record }
    }

    fn run(&self, key: &Key) {
        let token = Token::from_bytes([1; Token::LEN]);
        ready(self.backend.claim(key, token, &self.fingerprint, LEASE)).unwrap();
        let _ = ready(self.backend.complete(key, token, &self.record, RETENTION)).unwrap();
    }

    fn fill(&self, threads: u64, live: u64) {
        (0..threads).for_each(|thread| (0..live / threads).for_each(|number| self.run(&key(thread, number))));
    }

    /// Runs `rounds` new keys, and removes as many of the oldest.
    fn turn_over(&self, thread: u64, first: u64, live: u64, rounds: u64) {
        for number in first..first + rounds {
            self.run(&key(thread, number));
            black_box(ready(self.backend.remove(&key(thread, number - live))).unwrap());
        }
    }

    fn replay(&self, thread: u64, first: u64, live: u64, rounds: u64) {
        let token = Token::from_bytes([2; Token::LEN]);
        for number in first..first + rounds {
            let key = key(thread, number.wrapping_mul(0x5851_f42d_4c95_7f2d) % live);
            let answer = ready(self.backend.claim(&key, token, &self.fingerprint, LEASE)).unwrap();
            assert!(matches!(black_box(answer), Claim::Completed(_)));
        }
    }
}

/// Wall time of `work` on every thread at once.
fn in_parallel(threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
    start.elapsed()
}

fn memory(c: &mut Criterion) {
    for (live, threads) in [(10_000, 1), (1_000_000, 1), (1_000_000, 4)] {
        let load = Load::new();
        load.fill(threads, live);
        let share = live / threads;
        let mut group = c.benchmark_group("memory");
        group.throughput(Throughput::Elements(threads));
        let mut next = share;
        group.bench_function(BenchmarkId::new("new", format!("{live}/{threads}")), |bencher| {
            bencher.iter_custom(|rounds| {
                let first = next;
                next += rounds;
                in_parallel(threads, |thread| load.turn_over(thread, first, share, rounds))
            });
        });
        let load = Load::new();
        load.fill(threads, live);
        group.bench_function(BenchmarkId::new("replay", format!("{live}/{threads}")), |bencher| {
            bencher.iter_custom(|rounds| in_parallel(threads, |thread| load.replay(thread, 1, share, rounds)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3)).sample_size(20);
    targets = memory
}
criterion_main!(benches);
