//! How old a record may be that is answered from memory.

use std::time::Duration;

use tokio::time::advance;
use tower_idempotency::{Backend, Claim, Ownership, Token, testing::Command};

use crate::node::{DAY, MAX_AGE, MOMENT, Node, completed, key, record, shared};

#[tokio::test(start_paused = true)]
async fn a_record_is_looked_at_again_when_it_has_reached_its_age() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    node.run(key(), &paid, DAY).await;
    for _ in 0..2 {
        advance(MAX_AGE - MOMENT).await;
        assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
        advance(MOMENT).await;
        assert_eq!(node.counted_claim(key()).await, (completed(&paid), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_age_is_as_it_was_set() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    let node = Node { cached: node.cached.max_age(Duration::from_secs(5)), ..node };
    node.run(key(), &paid, DAY).await;
    // First for what was completed here, then for what was found.
    for _ in 0..2 {
        advance(Duration::from_secs(5) - MOMENT).await;
        assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
        advance(MOMENT).await;
        assert_eq!(node.counted_claim(key()).await, (completed(&paid), 1));
    }
}

/// The shared backend has perhaps looked right after the command was sent.
#[tokio::test(start_paused = true)]
async fn the_age_counts_from_the_sending_of_what_found_the_record() {
    let (shared, paid) = (shared(), record("paid"));
    let node = Node::of(&shared);
    shared.inner().complete(&key(), Token::random(), &paid, DAY).await.map(drop).unwrap();

    let (reply, claim) = node.hold_claim().await;
    advance(MAX_AGE - MOMENT).await;
    reply.open();
    assert_eq!(claim.await.unwrap(), completed(&paid));
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
    advance(MOMENT).await;
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 1));
}

#[tokio::test(start_paused = true)]
async fn a_record_completed_here_is_not_served_past_its_retention() {
    let (shared, paid, retention) = (shared(), record("paid"), Duration::from_secs(10));
    let node = Node::of(&shared);
    node.run(key(), &paid, retention).await;
    advance(retention - MOMENT).await;
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
    advance(MOMENT).await;
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_copy_expires_no_later_than_the_original_however_slow_its_storing_is() {
    let (shared, paid, retention) = (shared(), record("paid"), Duration::from_secs(10));
    let node = Node::of(&shared);
    let (request, delay) = (shared.hold(Command::Complete), Duration::from_secs(4));
    let completing = node.begin_complete(node.acquire(key()).await, &paid, retention);
    request.arrived().await;
    advance(delay).await;
    request.open();
    assert_eq!(completing.await.unwrap(), Ownership::Held);
    advance(retention - delay - MOMENT).await;
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 0));
    advance(MOMENT).await;
    assert_eq!(node.counted_claim(key()).await, (completed(&paid), 1), "the original lives a little longer");
}

/// A duplicate that comes while complete is under way reads the record, and knows nothing of its retention.
#[tokio::test(start_paused = true)]
async fn what_completes_a_record_here_says_how_long_it_is_kept() {
    let (shared, retention) = (shared(), Duration::from_secs(10));
    let (node, paid) = (Node::of(&shared), record("paid"));
    let reply = shared.hold_reply(Command::Complete);
    let completing = node.begin_complete(node.acquire(key()).await, &paid, retention);
    reply.arrived().await;
    assert_eq!(node.claim(key()).await, completed(&paid));
    reply.open();
    assert_eq!(completing.await.unwrap(), Ownership::Held);
    advance(retention).await;
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_another_node_outlives_its_retention_by_the_age_at_most() {
    let (shared, paid, retention) = (shared(), record("paid"), Duration::from_secs(10));
    let node = Node::of(&shared);
    Node::of(&shared).run(key(), &paid, retention).await;
    advance(retention - MOMENT).await;
    assert_eq!(node.claim(key()).await, completed(&paid));
    advance(MAX_AGE - MOMENT).await;
    assert_eq!(node.claim(key()).await, completed(&paid));
    advance(MOMENT).await;
    assert_eq!(node.claim(key()).await, Claim::Acquired);
}

#[test]
#[should_panic(expected = "a max_age of 0ns is too short")]
fn an_age_of_nothing_is_refused() {
    let _ = Node::of(&shared()).cached.max_age(Duration::ZERO);
}
