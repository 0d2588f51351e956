//! Which records are answered from memory.

use std::time::Duration;

use tokio::{
    task::yield_now,
    time::{Instant, advance},
};
use tower_idempotency::{
    Backend, BackendErrorKind, CachedBackend, Claim, Entry, MemoryBackend, Ownership, Record, Token,
    testing::{Command, Fault},
};

use crate::node::{DAY, LEASE, MOMENT, Node, completed, fingerprint, key, record, shared};

#[tokio::test(start_paused = true)]
async fn a_record_completed_here_costs_no_command() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    node.run(key(), &paid, DAY).await;
    assert_eq!(shared.log().len(), 2);
    for _ in 0..3 {
        assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
    }
    assert_eq!(node.cached.get(&key()).await.unwrap(), Some(Entry::Completed(paid.clone())));
    assert_eq!(node.cached.wait(&key(), Instant::now()).await.unwrap(), Some(Entry::Completed(paid)));
    assert_eq!(shared.log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_another_node_is_read_once() {
    let (shared, tombstone) = (shared(), Record::tombstone(&fingerprint()));
    let node = Node::of(&shared);
    Node::of(&shared).run(key(), &tombstone, DAY).await;
    assert_eq!(node.counted_claim(key()).await, (completed(&tombstone), 1));
    assert_eq!(node.counted_claim(key()).await, (completed(&tombstone), 0));

    let other = Node::of(&shared);
    assert_eq!(other.cached.get(&key()).await.unwrap(), Some(Entry::Completed(tombstone.clone())));
    assert_eq!(other.counted_claim(key()).await, (completed(&tombstone), 0));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_waited_for_costs_no_further_command() {
    let (shared, paid) = (shared(), record("paid"));
    let (runner, node) = (Node::of(&shared), Node::of(&shared));
    let token = Token::random();
    runner.cached.claim(&key(), token, &fingerprint(), LEASE).await.unwrap();
    let waiter = tokio::spawn({
        let node = node.clone();
        async move { node.cached.wait(&key(), Instant::now() + LEASE).await.unwrap() }
    });
    yield_now().await;
    assert_eq!(runner.complete(key(), token, &paid, DAY).await, Ownership::Held);
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(paid.clone())));
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
}

#[tokio::test(start_paused = true)]
async fn claims_are_asked_for_each_time() {
    let shared = shared();
    let (runner, node) = (Node::of(&shared), Node::of(&shared));
    let token = Token::random();
    for _ in 0..2 {
        assert_eq!(runner.cached.claim(&key(), token, &fingerprint(), LEASE).await.unwrap(), Claim::Acquired);
        let conflict = Claim::InProgress { fingerprint: fingerprint() };
        for _ in 0..2 {
            assert_eq!(node.counted_claim(key()).await, (conflict.clone(), 1));
        }
        runner.cached.release(&key(), token).await.unwrap();
    }
    assert_eq!(node.claim(key()).await, Claim::Acquired);
    assert_eq!(runner.cached.renew(&key(), token, LEASE).await.unwrap(), Ownership::Lost);
}

#[tokio::test(start_paused = true)]
async fn owners_commands_go_to_the_shared_backend_although_a_record_is_kept() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    let token = node.acquire(key()).await;
    assert_eq!(node.complete(key(), token, &paid, DAY).await, Ownership::Held);
    assert_eq!(node.complete(key(), token, &record("another"), DAY).await, Ownership::Held);
    assert_eq!(node.complete(key(), Token::random(), &record("a third"), DAY).await, Ownership::Lost);
    assert_eq!(node.cached.renew(&key(), token, LEASE).await.unwrap(), Ownership::Lost);
    node.cached.release(&key(), token).await.unwrap();
    assert_eq!(shared.log().len(), 6);
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
    assert_eq!(shared.inner().get(&key()).await.unwrap(), Some(Entry::Completed(paid)));
}

/// The first sending has perhaps been executed, long before the second: the original expires earlier than it seems.
#[tokio::test(start_paused = true)]
async fn a_record_that_was_sent_twice_is_not_kept_unseen() {
    let (shared, paid, retention) = (shared(), record("paid"), Duration::from_secs(10));
    let node = Node::of(&shared);
    let token = node.acquire(key()).await;
    shared.on(Command::Complete).next(Fault::ErrorAfter(BackendErrorKind::TimedOut));
    node.cached.complete(&key(), token, &paid, retention).await.unwrap_err();
    advance(retention - MOMENT).await;
    assert_eq!(node.complete(key(), token, &paid, retention).await, Ownership::Held);
    advance(MOMENT).await;
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_renewed_leaves_a_copy() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    let token = node.acquire(key()).await;
    for _ in 0..3 {
        advance(LEASE - MOMENT).await;
        assert_eq!(node.cached.renew(&key(), token, LEASE).await.unwrap(), Ownership::Held);
    }
    assert_eq!(node.complete(key(), token, &paid, DAY).await, Ownership::Held);
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_run_stays_but_its_record() {
    let (shared, memory) = (shared(), MemoryBackend::new());
    let node = Node::bounded(&shared, memory.clone());
    let token = node.acquire(key()).await;
    node.cached.release(&key(), token).await.unwrap();
    assert!(memory.is_empty());
    let token = node.acquire(key()).await;
    shared.on(Command::Complete).next(Fault::ErrorAfter(BackendErrorKind::TimedOut));
    node.cached.complete(&key(), token, &record("paid"), DAY).await.unwrap_err();
    assert!(memory.is_empty());
}

/// As `PostgresBackend::commit` stores it, which passes the cache by.
#[tokio::test(start_paused = true)]
async fn a_record_that_a_run_of_this_process_stored_by_other_means_is_read_once() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    let token = node.acquire(key()).await;
    assert_eq!(node.cached.renew(&key(), token, DAY).await.unwrap(), Ownership::Held, "as at most once");
    assert_eq!(shared.inner().complete(&key(), token, &paid, DAY).await.unwrap(), Ownership::Held);
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 1));
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_stored_is_not_kept() {
    let shared = shared();
    let node = Node::of(&shared);
    shared.on(Command::Complete).next(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    let token = node.acquire(key()).await;
    node.cached.complete(&key(), token, &record("paid"), DAY).await.unwrap_err();
    assert_eq!(node.claim(key()).await, Claim::InProgress { fingerprint: fingerprint() });
    assert!(shared.inner().remove(&key()).await.unwrap());
    shared.inner().claim(&key(), Token::random(), &fingerprint(), LEASE).await.unwrap();
    assert_eq!(node.complete(key(), token, &record("paid"), DAY).await, Ownership::Lost);
    assert_eq!(node.claim(key()).await, Claim::InProgress { fingerprint: fingerprint() });
}

#[test]
fn it_says_what_the_shared_backend_says_of_where_it_is() {
    let memory = MemoryBackend::new;
    assert!(CachedBackend::new(memory(), memory()).is_local());
    let distant = crate::distant::Distant::new(memory(), Duration::ZERO);
    assert!(!CachedBackend::new(memory(), distant).is_local());
}
