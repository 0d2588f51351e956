//! Waiters: what wakes them, and what they leave behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Wake, Waker},
};

use tokio::task::JoinSet;

use super::*;
use crate::{
    Backend, Entry, MemoryBackend,
    backend::memory::{shard::Look, waiter::Waiter},
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn woken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A waiter that has looked once, at a claim of ours.
fn registered<'a>(fixture: &'a Fixture, key: &'a Key, count: &Arc<Count>) -> Waiter<'a> {
    let mut waiter = fixture.store.waiter(key);
    let look = waiter.look(&Waker::from(Arc::clone(count)), fixture.now);
    assert!(matches!(look, Look::InProgress { .. }));
    waiter
}

/// How often a waiter on our claim is woken by what `end` does, once, and what it sees then.
fn woken_by(end: impl FnOnce(&mut Fixture)) -> (usize, Look) {
    let count = Arc::new(Count::default());
    let key = key(0);
    let mut fixture = Fixture::new();
    fixture.acquire(key, OURS);
    // Not dropped, so that it stays registered, and does not hold on to the fixture.
    std::mem::forget(registered(&fixture, &key, &count));
    assert_eq!(count.woken(), 0);
    end(&mut fixture);
    let woken = count.woken();
    let look = fixture.store.waiter(&key).look(Waker::noop(), fixture.now);
    (woken, look)
}

#[test]
fn a_waiter_is_woken_by_the_record() {
    let (woken, look) = woken_by(|fixture| {
        assert_eq!(fixture.complete(key(0), OURS, &record(60)), Ok(Ownership::Held));
    });
    assert_eq!(woken, 1);
    assert!(matches!(look, Look::Settled(Some(Entry::Completed(found))) if found == record(60)));
}

#[test]
fn a_waiter_is_woken_by_a_release() {
    let (woken, look) = woken_by(|fixture| fixture.store.release(&key(0), OURS, fixture.now));
    assert_eq!(woken, 1);
    assert!(matches!(look, Look::Settled(None)));
}

#[test]
fn a_waiter_is_woken_by_a_removal() {
    let (woken, look) = woken_by(|fixture| assert!(fixture.store.remove(&key(0), fixture.now)));
    assert_eq!(woken, 1);
    assert!(matches!(look, Look::Settled(None)));
}

#[test]
fn a_waiter_is_woken_by_the_clean_up_of_an_expired_claim() {
    let (woken, look) = woken_by(|fixture| {
        fixture.pass(LEASE);
        (1..100).for_each(|number| fixture.acquire(key(number), OURS));
    });
    assert_eq!(woken, 1);
    assert!(matches!(look, Look::Settled(None)));
}

#[test]
fn a_waiter_is_woken_by_the_claim_that_follows_an_expired_one() {
    let (woken, look) = woken_by(|fixture| {
        fixture.pass(LEASE);
        fixture.acquire(key(0), THEIRS);
    });
    assert_eq!(woken, 1);
    assert!(matches!(look, Look::InProgress { fingerprint: found, .. } if found == fingerprint(THEIRS)));
}

#[test]
fn a_waiter_is_woken_by_a_renewal_only_when_the_deadline_comes_nearer() {
    let renew = |lease| {
        move |fixture: &mut Fixture| {
            assert_eq!(fixture.store.renew(&key(0), OURS, lease, fixture.now), Ownership::Held);
        }
    };
    assert_eq!(woken_by(renew(2 * LEASE)).0, 0);
    assert_eq!(woken_by(renew(LEASE / 2)).0, 1);
}

#[test]
fn a_waiter_is_not_woken_by_what_changes_nothing() {
    let (woken, look) = woken_by(|fixture| {
        assert_eq!(fixture.complete(key(0), THEIRS, &record(60)), Ok(Ownership::Lost));
        fixture.store.release(&key(0), THEIRS, fixture.now);
        assert!(fixture.claim(key(0), OURS).is_ok() && fixture.holds(key(0)));
    });
    assert_eq!(woken, 0);
    assert!(matches!(look, Look::InProgress { .. }));
}

#[test]
fn a_dropped_waiter_leaves_nothing_behind() {
    let count = Arc::new(Count::default());
    let key = key(0);
    let fixture = Fixture::new();
    fixture.acquire(key, OURS);
    let (first, mut second) = (registered(&fixture, &key, &count), registered(&fixture, &key, &count));
    assert!(matches!(second.look(Waker::noop(), fixture.now), Look::InProgress { .. }));
    assert_eq!(fixture.snapshot(key).unwrap().waiters, 2, "looking again replaces");
    drop(first);
    assert_eq!(fixture.snapshot(key).unwrap().waiters, 1);
    drop(second);
    assert_eq!(fixture.snapshot(key).unwrap().waiters, 0);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn a_waiter_of_an_ended_claim_does_not_take_back_the_registration_of_another() {
    let count = Arc::new(Count::default());
    let key = key(0);
    let fixture = Fixture::new();
    fixture.acquire(key, OURS);
    let stale = registered(&fixture, &key, &count);
    fixture.store.release(&key, OURS, fixture.now);
    fixture.acquire(key, OURS);
    let _fresh = registered(&fixture, &key, &count);
    drop(stale);
    assert_eq!(fixture.snapshot(key).unwrap().waiters, 1);
}

/// An executor may drop a task, and with it a waiter, when it drops a waker.
struct LocksOnDrop(Arc<Fixture>);

impl Wake for LocksOnDrop {
    fn wake(self: Arc<Self>) {
        assert!(!self.0.holds(key(1)));
    }
}

impl Drop for LocksOnDrop {
    fn drop(&mut self) {
        assert!(!self.0.holds(key(1)));
    }
}

#[test]
fn wakers_are_woken_and_dropped_outside_the_lock() {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let fixture = Arc::new(Fixture::new());
        let key = key(0);
        let waker = || Waker::from(Arc::new(LocksOnDrop(Arc::clone(&fixture))));
        fixture.acquire(key, OURS);
        let mut waiter = fixture.store.waiter(&key);
        assert!(matches!(waiter.look(&waker(), fixture.now), Look::InProgress { .. }));
        assert!(matches!(waiter.look(&waker(), fixture.now), Look::InProgress { .. }));
        drop(waiter);
        let mut waiter = fixture.store.waiter(&key);
        assert!(matches!(waiter.look(&waker(), fixture.now), Look::InProgress { .. }));
        fixture.store.release(&key, OURS, fixture.now);
        assert!(matches!(waiter.look(&waker(), fixture.now), Look::Settled(None)));
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(60)).expect("a waker waits for the lock that is held around it");
}

/// A store of the public kind, with a claim of ours on `key(0)`.
async fn claimed() -> MemoryBackend {
    let backend = MemoryBackend::new();
    assert_eq!(backend.claim(&key(0), OURS, &fingerprint(OURS), LEASE).await.unwrap(), Claim::Acquired);
    backend
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_once_when_nothing_is_in_progress() {
    let backend = claimed().await;
    let start = Instant::now();
    assert_eq!(backend.wait(&key(1), start + SECOND).await.unwrap(), None);
    assert_eq!(backend.complete(&key(0), OURS, &record(60), RETENTION).await.unwrap(), Ownership::Held);
    assert_eq!(backend.wait(&key(0), start + SECOND).await.unwrap(), Some(Entry::Completed(record(60))));
    assert_eq!(Instant::now(), start);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_its_deadline() {
    let backend = claimed().await;
    let deadline = Instant::now() + SECOND;
    let expected = Some(Entry::InProgress { fingerprint: fingerprint(OURS) });
    assert_eq!(backend.wait(&key(0), deadline).await.unwrap(), expected);
    assert_eq!(Instant::now(), deadline);
    assert_eq!(backend.wait(&key(0), deadline - SECOND).await.unwrap(), expected, "a deadline that has passed");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_lease_though_nobody_wakes() {
    let backend = claimed().await;
    let start = Instant::now();
    assert_eq!(backend.wait(&key(0), start + 10 * LEASE).await.unwrap(), None);
    assert_eq!(Instant::now(), start + LEASE);
}

#[tokio::test(start_paused = true)]
async fn waiting_goes_on_while_the_lease_is_renewed() {
    let backend = claimed().await;
    let start = Instant::now();
    let renewing = async {
        for _ in 0..5 {
            tokio::time::sleep(LEASE / 2).await;
            assert_eq!(backend.renew(&key(0), OURS, LEASE).await.unwrap(), Ownership::Held);
        }
        assert_eq!(backend.complete(&key(0), OURS, &record(60), RETENTION).await.unwrap(), Ownership::Held);
    };
    let key = key(0);
    let (answer, ()) = tokio::join!(backend.wait(&key, start + 10 * LEASE), renewing);
    assert_eq!(answer.unwrap(), Some(Entry::Completed(record(60))));
    assert_eq!(Instant::now(), start + LEASE / 2 * 5);
}

#[tokio::test(start_paused = true)]
async fn waiting_goes_on_when_another_one_claims_first() {
    let backend = claimed().await;
    let deadline = Instant::now() + SECOND;
    let handing_over = async {
        backend.release(&key(0), OURS).await.unwrap();
        backend.claim(&key(0), THEIRS, &fingerprint(THEIRS), LEASE).await.unwrap()
    };
    let key = key(0);
    let (answer, claim) = tokio::join!(backend.wait(&key, deadline), handing_over);
    assert_eq!(claim, Claim::Acquired);
    assert_eq!(answer.unwrap(), Some(Entry::InProgress { fingerprint: fingerprint(THEIRS) }));
    assert_eq!(Instant::now(), deadline);
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_end_can_be_waited_for() {
    let backend = MemoryBackend::new();
    backend.claim(&key(0), OURS, &fingerprint(OURS), Duration::MAX).await.unwrap();
    let deadline = Instant::now() + SECOND;
    assert!(backend.wait(&key(0), deadline).await.unwrap().is_some());
    assert_eq!(Instant::now(), deadline);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_all_get_the_record() {
    let backend = claimed().await;
    let start = Instant::now();
    let mut waiters = JoinSet::new();
    for _ in 0..1000 {
        let backend = backend.clone();
        waiters.spawn(async move { backend.wait(&key(0), start + 10 * SECOND).await.unwrap() });
    }
    tokio::time::sleep(SECOND).await;
    let registered = || backend.store.locked(&key(0), |shard, key, _| shard.snapshot(key).unwrap().waiters);
    assert_eq!(registered(), 1000);
    assert_eq!(backend.complete(&key(0), OURS, &record(60), RETENTION).await.unwrap(), Ownership::Held);
    assert_eq!(waiters.join_all().await, vec![Some(Entry::Completed(record(60))); 1000]);
    assert_eq!(Instant::now(), start + SECOND);
    assert_eq!(registered(), 0);
}

#[tokio::test]
async fn debug_prints_counts_and_no_content() {
    let backend = claimed().await;
    assert_eq!(backend.complete(&key(1), OURS, &record(60), RETENTION).await.unwrap(), Ownership::Held);
    assert_eq!(format!("{backend:?}"), "MemoryBackend { entries: 2, record_bytes: 60 }");
    assert_eq!((backend.len(), backend.is_empty()), (2, false));
    assert!(MemoryBackend::default().is_empty());
}
