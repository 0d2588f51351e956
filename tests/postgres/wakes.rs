//! Keys are locked while somebody waits for them, and who cannot lock or listen waits all the same. The rest is in
//! `tests/stores/`.

use std::ops::AsyncFn;

use tower_idempotency::{
    Backend, Entry, Key, Token,
    sqlx::{Executor, postgres::PgPoolOptions, query},
};

use crate::{
    behaviour::support::{bounded, until_some},
    servers::runs::{claim, complete, record, wait},
    stores::wakes::NAME,
    support::{
        Fate, Proxy, Server, backend_at,
        store::{CHANNEL, Notices, Store, backend_over, until_locked},
    },
};

/// Ends one run that nobody waits for, and then one that another node waits for.
async fn assert_only_what_is_waited_for_is_told(end: impl AsyncFn(&Store, Key, Token)) {
    let server = Server::start(&[]);
    let (node, other) = (backend_over(&server, NAME).await, backend_over(&server, NAME).await);
    let (key, unwaited) = (Key::new("", "order-1"), Key::new("", "order-2"));
    let (token, token_of_unwaited) = (claim(&node, key).await, claim(&node, unwaited).await);
    let waiter = wait(&other, key);
    until_locked(&server, 1, 1).await;
    let mut notices = Notices::listen(&server).await;

    end(&node, unwaited, token_of_unwaited).await;
    end(&node, key, token).await;
    assert_eq!(bounded(notices.next()).await, Notices::of(key));
    waiter.await.unwrap();
    until_locked(&server, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_said_of_a_key_that_nobody_waits_for() {
    assert_only_what_is_waited_for_is_told(async |node, key, token| complete(node, key, token).await).await;
    assert_only_what_is_waited_for_is_told(async |node, key, token| node.release(&key, token).await.unwrap()).await;
    assert_only_what_is_waited_for_is_told(async |node, key, _| assert!(node.remove(&key).await.unwrap())).await;
}

/// Whoever may not hold a key's lock polls.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_may_not_lock_waits_all_the_same() {
    let server = Server::start(&[]);
    let forbid = "CREATE ROLE payments LOGIN; GRANT ALL ON SCHEMA public TO payments;
        REVOKE EXECUTE ON FUNCTION pg_advisory_lock_shared(bigint) FROM PUBLIC";
    server.pool(1).execute(forbid).await.unwrap();
    let pool = PgPoolOptions::new().connect_lazy_with(server.address().username("payments"));
    let node = backend_at(pool, NAME).await;
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&node, key);
    let refusal = "permission denied for function pg_advisory_lock_shared";
    until_some("it is refused the lock", async || server.output().contains(refusal).then_some(())).await;
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    until_locked(&server, 0, 0).await;
}

/// Behind this proxy `LISTEN` succeeds, and no notice arrives: as behind a pooler of transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_hears_nothing_does_not_rely_on_notices() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server, |_| Fate::Pass).await;
    let node = backend_at(proxy.pool(5), NAME).await;
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&node, key);
    let probes = || proxy.count(|statement| statement == "SELECT pg_notify($1, $2)");
    until_some("it has tried to hear itself twice", async || (probes() >= 2).then_some(())).await;
    until_locked(&server, 0, 0).await;
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
}

/// Whoever may use the database can make waiters look, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forged_notice_ends_no_wait() {
    let server = Server::start(&[]);
    let (node, other) = (backend_over(&server, NAME).await, backend_over(&server, NAME).await);
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&other, key);
    until_locked(&server, 1, 1).await;
    let pool = server.pool(1);
    let mut notices = Notices::listen(&server).await;
    let another = Key::new("", "order-2").to_string();
    for forged in ["x", "'; DROP TABLE wakes; --", &"f".repeat(65), &"\u{e9}".repeat(32), &another, &key.to_string()] {
        query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(forged).execute(&pool).await.unwrap();
        assert_eq!(bounded(notices.next()).await, forged);
    }
    until_locked(&server, 1, 1).await; // it goes on waiting
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
}
