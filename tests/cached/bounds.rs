//! The memory keeps its bounds.

use tower_idempotency::{Backend, Claim, Key, MemoryBackend, Token};

use crate::node::{DAY, Node, completed, key, record, shared};

#[tokio::test(start_paused = true)]
async fn the_memory_keeps_its_bounds_and_lets_the_oldest_records_go() {
    let (shared, memory) = (shared(), MemoryBackend::with_limits(3, 1000));
    let node = Node::bounded(&shared, memory.clone());
    let key = |number: u8| Key::from_bytes([number; Key::LEN]);
    for number in 0..5 {
        node.run(key(number), &record("paid"), DAY).await;
        assert!(memory.len() <= 3);
    }
    let mut commands = Vec::new();
    for number in (0..5).rev() {
        let (claim, count) = node.counted_claim(key(number)).await;
        assert_eq!(claim, completed(&record("paid")));
        commands.push(count);
    }
    assert_eq!(commands, [0, 0, 0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_too_large_for_the_memory_is_replayed_all_the_same() {
    let shared = shared();
    let node = Node::bounded(&shared, MemoryBackend::with_limits(10, 1000));
    let large = record(&"x".repeat(2000));
    node.run(key(), &large, DAY).await;
    for _ in 0..2 {
        assert_eq!(node.counted_claim(key()).await, (completed(&large), 1));
    }
}

/// Redis hands out slices of its receive buffer, which the cache must not keep in memory.
#[tokio::test(start_paused = true)]
async fn a_copy_has_memory_of_its_own() {
    let (shared, large) = (shared(), record(&"x".repeat(100_000)));
    let node = Node::of(&shared);
    shared.inner().complete(&key(), Token::random(), &large, DAY).await.map(drop).unwrap();
    let addresses = [node.claim(key()).await, node.claim(key()).await].map(|claim| match claim {
        Claim::Completed(record) => record.to_bytes().as_ptr(),
        other => panic!("{other:?}"),
    });
    assert_ne!(addresses[0], addresses[1], "the first one is the shared backend's, the second one the cache's");
}
