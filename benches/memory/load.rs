//! A store, and what is done to it.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tower_idempotency::{Backend, Claim, Fingerprint, Key, MemoryBackend, Record, Token};

pub(crate) const RETENTION: Duration = Duration::from_secs(24 * 3600);
const LEASE: Duration = Duration::from_secs(30);

/// What a record holds beside its value.
const PREAMBLE: usize = 50;

/// A store whose records are numbered: each thread has numbers of its own.
pub(crate) struct Load {
    backend: MemoryBackend,
    fingerprint: Fingerprint,
    record: Record,
}

impl Load {
    pub(crate) fn new() -> Self {
        let fingerprint = Fingerprint::of("a request");
        let record = Record::value(&fingerprint, &[7; 300 - PREAMBLE]);
        Self { backend: MemoryBackend::with_limits(4_000_000, 4 << 30), fingerprint, record }
    }

    /// A store in which each of `threads` threads has the records 0 to `share`.
    pub(crate) fn filled(threads: u64, share: u64) -> Self {
        let load = Self::new();
        (0..threads).for_each(|thread| (0..share).for_each(|number| load.run(thread, number)));
        load
    }

    /// Claims a new key.
    pub(crate) fn claim(&self, thread: u64, number: u64) {
        let claim = ready(self.backend.claim(&key(thread, number), token(1), &self.fingerprint, LEASE)).unwrap();
        assert_eq!(claim, Claim::Acquired);
    }

    /// Claims a new key, and completes it.
    pub(crate) fn run(&self, thread: u64, number: u64) {
        self.claim(thread, number);
        let _ = ready(self.backend.complete(&key(thread, number), token(1), &self.record, RETENTION)).unwrap();
    }

    pub(crate) fn remove(&self, thread: u64, number: u64) {
        assert!(ready(self.backend.remove(&key(thread, number))).unwrap());
    }

    pub(crate) fn replay(&self, thread: u64, number: u64) {
        let answer = ready(self.backend.claim(&key(thread, number), token(2), &self.fingerprint, LEASE)).unwrap();
        assert!(matches!(black_box(answer), Claim::Completed(_)));
    }

    pub(crate) fn len(&self) -> usize {
        self.backend.len()
    }
}

fn token(number: u8) -> Token {
    Token::from_bytes([number; Token::LEN])
}

/// The answer of a command that never waits.
fn ready<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("commands of the memory backend are ready at once"),
    }
}

/// Distinct, and as unordered as a digest.
fn key(thread: u64, number: u64) -> Key {
    let mut bytes = [0; Key::LEN];
    let mixed = (number ^ (thread << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    Key::from_bytes(bytes)
}

/// One of the numbers below `count`, in an order that caches cannot foresee.
pub(crate) fn scattered(number: u64, count: u64) -> u64 {
    number.wrapping_mul(0x5851_f42d_4c95_7f2d) % count
}
