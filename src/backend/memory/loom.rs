//! Every order in which up to three threads can get the lock.
//!
//! `RUSTFLAGS="--cfg idempotency_loom" cargo test --lib --target-dir target/loom loom`

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use loom::{future::block_on, thread};
use tokio::time::Instant;

use super::{
    shard::{Bounds, Look},
    store::Store,
    waiter::Waiter,
};
use crate::{BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

const LEASE: Duration = Duration::from_secs(30);
const A: Token = Token::from_bytes([1; Token::LEN]);
const B: Token = Token::from_bytes([2; Token::LEN]);
const C: Token = Token::from_bytes([3; Token::LEN]);

/// A store that several threads share, with a clock of each caller's own.
#[derive(Clone)]
struct Shared {
    store: Arc<Store>,
    start: Instant,
}

impl Shared {
    fn new() -> Self {
        Self::bounded(100)
    }

    fn bounded(entries: usize) -> Self {
        Self { store: Arc::new(Store::new(Bounds { entries, bytes: 1000 })), start: Instant::now() }
    }

    fn claim(&self, key: Key, token: Token, now: Instant) -> Result<Claim, BackendErrorKind> {
        self.store.claim(&key, token, &Fingerprint::of(token.as_bytes()), LEASE, now)
    }

    fn acquire(&self, key: Key, token: Token) {
        assert_eq!(self.claim(key, token, self.start), Ok(Claim::Acquired));
    }

    fn complete(&self, key: Key, token: Token, now: Instant) -> Ownership {
        self.store.complete(&key, token, &record(token), LEASE, now).unwrap()
    }

    fn after_lease(&self) -> Instant {
        self.start + LEASE
    }

    /// Runs `work` on a thread of its own.
    fn spawn<T: 'static>(&self, work: impl FnOnce(Self) -> T + 'static) -> thread::JoinHandle<T> {
        let shared = self.clone();
        thread::spawn(move || work(shared))
    }

    /// Waits for the run under `key` to end, without a timer: a lost wake-up is a deadlock, which loom reports.
    fn wait(&self, key: Key) -> Option<Entry> {
        let mut waiter = self.store.waiter(&key);
        block_on(poll_fn(|context| self.poll(&mut waiter, context.waker())))
    }

    fn poll(&self, waiter: &mut Waiter<'_>, waker: &std::task::Waker) -> Poll<Option<Entry>> {
        match waiter.look(waker, self.start) {
            Look::Settled(entry) => Poll::Ready(entry),
            Look::InProgress { .. } => Poll::Pending,
        }
    }
}

fn key(number: u8) -> Key {
    Key::from_bytes([number; Key::LEN])
}

/// The record that the holder of `token` completes with.
fn record(token: Token) -> Record {
    Record::value(&Fingerprint::of(token.as_bytes()), token.as_bytes())
}

fn acquired<const N: usize>(claims: [Result<Claim, BackendErrorKind>; N]) -> usize {
    claims.into_iter().filter(|claim| *claim == Ok(Claim::Acquired)).count()
}

#[test]
fn one_of_two_claims_is_acquired() {
    loom::model(|| {
        let shared = Shared::new();
        let first = shared.spawn(|shared| shared.claim(key(0), A, shared.start));
        let second = shared.spawn(|shared| shared.claim(key(0), B, shared.start));
        assert_eq!(acquired([first.join().unwrap(), second.join().unwrap()]), 1);
    });
}

#[test]
fn one_of_two_claims_on_an_expired_claim_is_acquired() {
    loom::model(|| {
        let shared = Shared::new();
        shared.acquire(key(0), A);
        let first = shared.spawn(|shared| shared.claim(key(0), B, shared.after_lease()));
        let second = shared.spawn(|shared| shared.claim(key(0), C, shared.after_lease()));
        assert_eq!(acquired([first.join().unwrap(), second.join().unwrap()]), 1);
    });
}

/// A holder that stalled past its lease, and its successor: one of them records, and both see what was recorded.
#[test]
fn one_of_a_stalled_holder_and_its_successor_completes() {
    loom::model(|| {
        let shared = Shared::new();
        shared.acquire(key(0), A);
        let stalled = shared.spawn(|shared| shared.complete(key(0), A, shared.after_lease()));
        let successor = shared.spawn(|shared| {
            let claim = shared.claim(key(0), B, shared.after_lease()).unwrap();
            (claim, shared.complete(key(0), B, shared.after_lease()))
        });
        let stalled = stalled.join().unwrap();
        let (claim, successor) = successor.join().unwrap();

        let (winner, expected) = match claim {
            Claim::Acquired => (B, (Ownership::Lost, Ownership::Held)),
            Claim::Completed(found) => {
                assert_eq!(found, record(A));
                (A, (Ownership::Held, Ownership::Lost))
            }
            Claim::InProgress { .. } => panic!("the lease is over"),
        };
        assert_eq!((stalled, successor), expected);
        let found = shared.store.get(&key(0), shared.after_lease());
        assert_eq!(found, Some(Entry::Completed(record(winner))));
    });
}

#[test]
fn a_release_wakes_the_waiter() {
    loom::model(|| {
        let shared = Shared::new();
        shared.acquire(key(0), A);
        let holder = shared.spawn(|shared| shared.store.release(&key(0), A, shared.start));
        assert_eq!(shared.wait(key(0)), None);
        holder.join().unwrap();
    });
}

/// The waiter goes on to wait for whoever claimed next, and gets that one's record.
#[test]
fn a_waiter_that_was_woken_for_nothing_waits_on() {
    loom::model(|| {
        let shared = Shared::new();
        shared.acquire(key(0), A);
        let holders = shared.spawn(|shared| {
            shared.store.release(&key(0), A, shared.start);
            shared.acquire(key(0), B);
            shared.complete(key(0), B, shared.start)
        });
        let seen = shared.wait(key(0));
        assert!(seen.is_none() || seen == Some(Entry::Completed(record(B))));
        assert_eq!(holders.join().unwrap(), Ownership::Held);
    });
}

#[test]
fn a_record_wakes_both_waiters() {
    loom::model(|| {
        let shared = Shared::new();
        shared.acquire(key(0), A);
        let holder = shared.spawn(|shared| shared.complete(key(0), A, shared.start));
        let waiter = shared.spawn(|shared| shared.wait(key(0)));
        assert_eq!(shared.wait(key(0)), Some(Entry::Completed(record(A))));
        assert_eq!(waiter.join().unwrap(), Some(Entry::Completed(record(A))));
        assert_eq!(holder.join().unwrap(), Ownership::Held);
    });
}

/// What ends the lease is a command on another key, whose sweep comes across the dead claim.
#[test]
fn the_clean_up_of_a_dead_claim_wakes_the_waiter() {
    loom::model(|| {
        let shared = Shared::bounded(1);
        shared.acquire(key(0), A);
        let other = shared.spawn(|shared| shared.claim(key(1), B, shared.after_lease()));
        assert_eq!(shared.wait(key(0)), None);
        assert_eq!(other.join().unwrap(), Ok(Claim::Acquired));
    });
}

#[test]
fn a_waiter_that_leaves_takes_no_wake_up_from_another() {
    loom::model(|| {
        let shared = Shared::new();
        shared.acquire(key(0), A);
        let holder = shared.spawn(|shared| shared.complete(key(0), A, shared.start));
        let leaving = shared.spawn(|shared| {
            let key = key(0);
            let mut waiter = shared.store.waiter(&key);
            let look = waiter.look(std::task::Waker::noop(), shared.start);
            drop(waiter);
            matches!(look, Look::InProgress { .. })
        });
        assert_eq!(shared.wait(key(0)), Some(Entry::Completed(record(A))));
        leaving.join().unwrap();
        assert_eq!(holder.join().unwrap(), Ownership::Held);
    });
}

/// A claim and a record fill the store. Of two further claims one takes the place of the record, and none that of the
/// claim.
#[test]
fn eviction_never_takes_a_claim() {
    loom::model(|| {
        let shared = Shared::bounded(2);
        shared.acquire(key(0), A);
        shared.acquire(key(1), A);
        assert_eq!(shared.complete(key(1), A, shared.start), Ownership::Held);
        let first = shared.spawn(|shared| shared.claim(key(2), B, shared.start));
        let second = shared.spawn(|shared| shared.claim(key(3), C, shared.start));
        assert_eq!(shared.store.renew(&key(0), A, LEASE, shared.start), Ownership::Held);
        let claims = [first.join().unwrap(), second.join().unwrap()];
        assert_eq!(acquired(claims.clone()), 1);
        assert!(claims.contains(&Err(BackendErrorKind::Full)));
        assert_eq!(shared.complete(key(0), A, shared.start), Ownership::Held);
    });
}
