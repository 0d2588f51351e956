//! What is removed is not answered from memory.

use tokio::time::advance;
use tower_idempotency::{
    Backend, BackendErrorKind, Claim, Key, MemoryBackend, Ownership,
    testing::{Command, Fault},
};

use crate::node::{DAY, MAX_AGE, MOMENT, Node, completed, fingerprint, key, record, shared};

#[tokio::test(start_paused = true)]
async fn a_removal_here_takes_effect_at_once() {
    let shared = shared();
    let node = Node::of(&shared);
    node.run(key(), &record("paid"), DAY).await;
    assert!(node.cached.remove(&key()).await.unwrap());
    assert!(!node.cached.remove(&key()).await.unwrap());
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_removal_elsewhere_takes_effect_when_the_record_reaches_its_age() {
    let (shared, paid) = (shared(), record("paid"));
    let (node, other) = (Node::of(&shared), Node::of(&shared));
    node.run(key(), &paid, DAY).await;
    assert!(other.cached.remove(&key()).await.unwrap());
    // Run once more elsewhere. The node tells the old story for a while.
    other.run(key(), &record("paid again"), DAY).await;
    advance(MAX_AGE - MOMENT).await;
    assert_eq!(node.claim(key()).await, completed(&paid));
    advance(MOMENT).await;
    assert_eq!(node.claim(key()).await, completed(&record("paid again")));
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_not_answered_has_removed_the_copy() {
    let shared = shared();
    let node = Node::of(&shared);
    node.run(key(), &record("paid"), DAY).await;
    shared.on(Command::Remove).next(Fault::ErrorAfter(BackendErrorKind::TimedOut));
    node.cached.remove(&key()).await.unwrap_err();
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_nobody_waits_for_has_removed_the_copy() {
    let shared = shared();
    let node = Node::of(&shared);
    node.run(key(), &record("paid"), DAY).await;
    let reply = shared.hold_reply(Command::Remove);
    let removing = tokio::spawn({
        let node = node.clone();
        async move { node.cached.remove(&key()).await }
    });
    reply.arrived().await;
    removing.abort();
    removing.await.unwrap_err();
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_on_its_way_is_not_kept_after_a_removal() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    Node::of(&shared).run(key(), &paid, DAY).await;
    let (reply, claim) = node.hold_claim().await;
    assert!(node.cached.remove(&key()).await.unwrap());
    reply.open();
    assert_eq!(claim.await.unwrap(), completed(&paid), "it was there when it was asked for");
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_read_while_it_is_being_removed_is_not_kept() {
    for late in [false, true] {
        let (shared, paid) = (shared(), record("paid"));
        let node = Node::of(&shared);
        Node::of(&shared).run(key(), &paid, DAY).await;
        let removal = shared.hold(Command::Remove);
        let removing = tokio::spawn({
            let node = node.clone();
            async move { node.cached.remove(&key()).await.unwrap() }
        });
        removal.arrived().await;
        let (reply, claim) = node.hold_claim().await;
        if late {
            removal.open();
            assert!(removing.await.unwrap());
            reply.open();
            assert_eq!(claim.await.unwrap(), completed(&paid));
        } else {
            reply.open();
            assert_eq!(claim.await.unwrap(), completed(&paid));
            removal.open();
            assert!(removing.await.unwrap());
        }
        assert_eq!(node.claim(key()).await, Claim::Acquired);
    }
}

/// Two answers come in another order than that in which their commands were executed.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_acquired_shows_that_a_copy_is_out_of_date() {
    let shared = shared();
    let node = Node::of(&shared);
    Node::of(&shared).run(key(), &record("old"), DAY).await;
    let (old, first) = node.hold_claim().await;
    shared.inner().remove(&key()).await.unwrap();
    let (acquired, second) = node.hold_claim().await;

    old.open();
    assert_eq!(first.await.unwrap(), completed(&record("old")));
    acquired.open();
    assert_eq!(second.await.unwrap(), Claim::Acquired);
    assert_eq!(node.claim(key()).await, Claim::InProgress { fingerprint: fingerprint() });
}

#[tokio::test(start_paused = true)]
async fn removals_of_other_keys_do_not_matter() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    let other = |number: u8| Key::from_bytes([number; Key::LEN]);
    let reply = shared.hold_reply(Command::Complete);
    let completing = node.begin_complete(node.acquire(key()).await, &paid, DAY);
    reply.arrived().await;
    let removal = shared.hold_reply(Command::Remove);
    let removing = tokio::spawn({
        let node = node.clone();
        async move { node.cached.remove(&other(0)).await }
    });
    removal.arrived().await;
    for number in 1..20 {
        node.cached.remove(&other(number)).await.unwrap();
    }
    reply.open();
    assert_eq!(completing.await.unwrap(), Ownership::Held);
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
    removal.open();
    assert!(!removing.await.unwrap().unwrap());
}

/// More removals than are remembered.
#[tokio::test(start_paused = true)]
async fn a_removal_counts_however_many_follow() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::bounded(&shared, MemoryBackend::with_limits(100, 100_000));
    Node::of(&shared).run(key(), &paid, DAY).await;
    let (reply, claim) = node.hold_claim().await;
    assert!(node.cached.remove(&key()).await.unwrap());
    for number in 0..100 {
        node.cached.remove(&Key::from_bytes([number; Key::LEN])).await.unwrap();
    }
    reply.open();
    assert_eq!(claim.await.unwrap(), completed(&paid));
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_storing_is_answered_after_its_removal_is_not_kept() {
    let shared = shared();
    let node = Node::of(&shared);
    let reply = shared.hold_reply(Command::Complete);
    let completing = node.begin_complete(node.acquire(key()).await, &record("paid"), DAY);
    reply.arrived().await;
    assert!(node.cached.remove(&key()).await.unwrap());
    reply.open();
    assert_eq!(completing.await.unwrap(), Ownership::Held);
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

/// An operator removed the record elsewhere, and the request ran again here, while an answer was on its way.
#[tokio::test(start_paused = true)]
async fn what_is_completed_here_displaces_an_older_record() {
    let shared = shared();
    let node = Node::of(&shared);
    Node::of(&shared).run(key(), &record("old"), DAY).await;
    let (reply, claim) = node.hold_claim().await;
    shared.inner().remove(&key()).await.unwrap();
    let token = node.acquire(key()).await;
    reply.open();
    assert_eq!(claim.await.unwrap(), completed(&record("old")));
    assert_eq!(node.claim(key()).await, Claim::InProgress { fingerprint: fingerprint() });

    assert_eq!(node.complete(key(), token, &record("new"), DAY).await, Ownership::Held);
    assert_eq!(node.counted_claim(key()).await, (completed(&record("new")), 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_does_not_displace_what_was_completed_here() {
    let shared = shared();
    let node = Node::of(&shared);
    Node::of(&shared).run(key(), &record("old"), DAY).await;
    let (reply, claim) = node.hold_claim().await;
    shared.inner().remove(&key()).await.unwrap();
    let token = node.acquire(key()).await;
    assert_eq!(node.complete(key(), token, &record("new"), DAY).await, Ownership::Held);
    reply.open();
    assert_eq!(claim.await.unwrap(), completed(&record("old")));
    assert_eq!(node.counted_claim(key()).await, (completed(&record("new")), 0));
}
