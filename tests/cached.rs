//! `CachedBackend`: the behaviour suite and the conformance suite over it, and what its memory may answer, and when.
#![cfg(feature = "memory")]

#[macro_use]
mod behaviour;
#[path = "support/distant.rs"]
mod distant;

use std::time::Duration;

use tower_idempotency::{BoxBackend, CachedBackend, MemoryBackend};

use self::distant::Distant;

fn cached() -> BoxBackend {
    let shared = Distant::new(MemoryBackend::new(), Duration::from_micros(300));
    BoxBackend::new(CachedBackend::new(MemoryBackend::new(), shared))
}

suite!(crate::cached());

#[cfg(feature = "test-util")]
#[path = "support/reference.rs"]
#[allow(dead_code, reason = "the wrong variants of it are not for these tests")]
#[allow(unreachable_pub, reason = "other tests use it as a module of theirs")]
mod reference;

#[cfg(feature = "test-util")]
mod laws {
    use std::{sync::Arc, time::Duration};

    use tower_idempotency::{CachedBackend, MemoryBackend, testing::conformance};

    use crate::{distant::Distant, reference::Reference};

    fn over_memory() -> CachedBackend<MemoryBackend> {
        CachedBackend::new(MemoryBackend::new(), MemoryBackend::new())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn are_kept_in_real_time() {
        conformance(|| async { over_memory() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn are_kept_under_a_paused_clock() {
        conformance(|| async { over_memory() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn are_kept_over_another_backend() {
        let backend = CachedBackend::new(MemoryBackend::new(), Arc::new(Reference::default()));
        conformance(|| async { backend.clone() }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn are_kept_over_a_round_trip() {
        let shared = Distant::new(MemoryBackend::new(), Duration::from_micros(300));
        conformance(|| async { CachedBackend::new(MemoryBackend::new(), shared.clone()) }).await;
    }

    /// Nothing but claims fits into the memory: a cache that keeps nothing is still a backend.
    #[tokio::test(start_paused = true)]
    async fn are_kept_with_a_memory_of_one_byte() {
        conformance(|| async { CachedBackend::new(MemoryBackend::with_limits(1, 1), Reference::default()) }).await;
    }
}

#[cfg(feature = "test-util")]
mod memory {
    use std::time::Duration;

    use tokio::{
        task::{JoinHandle, yield_now},
        time::{Instant, advance},
    };
    use tower_idempotency::{
        Backend, BackendErrorKind, CachedBackend, Claim, Entry, Fingerprint, Key, MemoryBackend, Ownership, Record,
        Token,
        testing::{Command, Fault, FaultyBackend},
    };

    const LEASE: Duration = Duration::from_secs(30);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const MAX_AGE: Duration = Duration::from_secs(60);
    const MOMENT: Duration = Duration::from_millis(1);

    type Shared = FaultyBackend<MemoryBackend>;

    fn shared() -> Shared {
        FaultyBackend::new(MemoryBackend::new())
    }

    fn key() -> Key {
        Key::new("", "k-1")
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint::of("a request")
    }

    fn record(text: &str) -> Record {
        Record::value(&fingerprint(), text.as_bytes())
    }

    /// A process with a cache of its own.
    #[derive(Clone)]
    struct Node {
        cached: CachedBackend<Shared>,
        shared: Shared,
    }

    impl Node {
        fn of(shared: &Shared) -> Self {
            Self::bounded(shared, MemoryBackend::new())
        }

        fn bounded(shared: &Shared, memory: MemoryBackend) -> Self {
            Self { cached: CachedBackend::new(memory, shared.clone()), shared: shared.clone() }
        }

        async fn claim(&self, key: Key) -> Claim {
            self.cached.claim(&key, Token::random(), &fingerprint(), LEASE).await.unwrap()
        }

        /// Claims the key and returns the token.
        async fn acquire(&self, key: Key) -> Token {
            let token = Token::random();
            let claim = self.cached.claim(&key, token, &fingerprint(), LEASE).await.unwrap();
            assert_eq!(claim, Claim::Acquired);
            token
        }

        /// Sends the complete of the run that `token` holds, in the background.
        fn begin_complete(&self, token: Token, record: &Record, retention: Duration) -> JoinHandle<Ownership> {
            let (node, record) = (self.clone(), record.clone());
            tokio::spawn(async move { node.complete(key(), token, &record, retention).await })
        }

        async fn complete(&self, key: Key, token: Token, record: &Record, retention: Duration) -> Ownership {
            self.cached.complete(&key, token, record, retention).await.unwrap()
        }

        /// Runs the request with `key`: two commands.
        async fn run(&self, key: Key, record: &Record, retention: Duration) {
            let token = self.acquire(key).await;
            assert_eq!(self.complete(key, token, record, retention).await, Ownership::Held);
        }

        /// The claim's answer, and how many commands it took.
        async fn counted_claim(&self, key: Key) -> (Claim, usize) {
            let before = self.shared.log().len();
            let claim = self.claim(key).await;
            (claim, self.shared.log().len() - before)
        }

        fn begin_claim(&self) -> JoinHandle<Claim> {
            let node = self.clone();
            tokio::spawn(async move { node.claim(key()).await })
        }
    }

    fn completed(record: &Record) -> Claim {
        Claim::Completed(record.clone())
    }

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

        let reply = shared.hold_reply(Command::Claim);
        let claim = node.begin_claim();
        reply.arrived().await;
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
        let reply = shared.hold_reply(Command::Claim);
        let claim = node.begin_claim();
        reply.arrived().await;
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
            let reply = shared.hold_reply(Command::Claim);
            let claim = node.begin_claim();
            reply.arrived().await;
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
        let old = shared.hold_reply(Command::Claim);
        let first = node.begin_claim();
        old.arrived().await;
        shared.inner().remove(&key()).await.unwrap();
        let acquired = shared.hold_reply(Command::Claim);
        let second = node.begin_claim();
        acquired.arrived().await;

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
        let reply = shared.hold_reply(Command::Claim);
        let claim = node.begin_claim();
        reply.arrived().await;
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
        let reply = shared.hold_reply(Command::Claim);
        let claim = node.begin_claim();
        reply.arrived().await;
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
        let reply = shared.hold_reply(Command::Claim);
        let claim = node.begin_claim();
        reply.arrived().await;
        shared.inner().remove(&key()).await.unwrap();
        let token = node.acquire(key()).await;
        assert_eq!(node.complete(key(), token, &record("new"), DAY).await, Ownership::Held);
        reply.open();
        assert_eq!(claim.await.unwrap(), completed(&record("old")));
        assert_eq!(node.counted_claim(key()).await, (completed(&record("new")), 0));
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

    #[test]
    #[should_panic(expected = "a max_age of 0ns is too short")]
    fn an_age_of_nothing_is_refused() {
        let _ = Node::of(&shared()).cached.max_age(Duration::ZERO);
    }

    #[test]
    fn it_says_what_the_shared_backend_says_of_where_it_is() {
        let memory = MemoryBackend::new;
        assert!(CachedBackend::new(memory(), memory()).is_local());
        let distant = crate::distant::Distant::new(memory(), Duration::ZERO);
        assert!(!CachedBackend::new(memory(), distant).is_local());
    }
}

/// What the layer makes of it.
#[cfg(feature = "test-util")]
mod layer {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, StatusCode};
    use http_body_util::Full;
    use tower::{Layer, ServiceExt};
    use tower_idempotency::{
        CachedBackend, Idempotency, IdempotencyLayer, MemoryBackend, Outcome,
        testing::{Command, FaultyBackend, InnerService},
    };

    use crate::distant::Distant;

    type Shared = FaultyBackend<Distant>;
    type Service = Idempotency<InnerService, CachedBackend<Shared>>;

    fn node(shared: &Shared) -> Service {
        IdempotencyLayer::new(CachedBackend::new(MemoryBackend::new(), shared.clone())).layer(InnerService::new())
    }

    async fn pay(service: &Service, key: &'static str, body: &'static str) -> (StatusCode, Outcome) {
        let request = Request::post("http://localhost/payments").header("idempotency-key", key);
        let request = request.body(Full::<Bytes>::from(body)).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        (response.status(), *response.extensions().get::<Outcome>().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_replay_and_a_mismatch_cost_nothing_where_the_record_was_seen() {
        let shared = FaultyBackend::new(Distant::new(MemoryBackend::new(), Duration::from_millis(1)));
        let (node, other) = (node(&shared), node(&shared));
        assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Executed));
        assert_eq!((shared.sent(Command::Claim), shared.sent(Command::Complete), shared.log().len()), (1, 1, 2));

        // Each is judged by its own fingerprint, in whichever order they come.
        for _ in 0..2 {
            assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Replayed));
            assert_eq!(pay(&node, "k-1", "13").await.0, StatusCode::UNPROCESSABLE_ENTITY);
        }
        assert_eq!(shared.log().len(), 2);

        // Where it was not, the first of them asks, and be it a mismatch.
        assert_eq!(pay(&other, "k-1", "13").await.0, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(shared.log().len(), 3);
        assert_eq!(pay(&other, "k-1", "12").await, (StatusCode::OK, Outcome::Replayed));
        assert_eq!(shared.log().len(), 3);
    }

    /// While the shared backend is out of reach, what was seen is replayed, and nothing else is answered.
    #[tokio::test(start_paused = true)]
    async fn replays_go_on_while_the_shared_backend_is_stalled() {
        let shared = FaultyBackend::new(Distant::new(MemoryBackend::new(), Duration::from_millis(1)));
        let node = node(&shared);
        assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Executed));
        shared.stall();
        assert_eq!(pay(&node, "k-1", "12").await, (StatusCode::OK, Outcome::Replayed));
        assert_eq!(pay(&node, "k-2", "12").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
