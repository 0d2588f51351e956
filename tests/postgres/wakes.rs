//! Waiting duplicates of other nodes are told when a run has ended.

use std::ops::AsyncFn;

use tower_idempotency::{
    Backend, Entry, Key, PostgresBackend, Token,
    sqlx::{
        Executor, PgPool,
        postgres::{PgListener, PgPoolOptions},
        query, query_scalar,
    },
};

use crate::{
    behaviour::support::{bounded, until_some},
    servers::runs::{claim, complete, record, wait},
    support::{Fate, Proxy, Server, backend_at},
};

const CHANNEL: &str = "tower_idempotency";

/// Waits until so many connections hold the locks of so many keys in all.
async fn until_locked(server: &Server, connections: i64, locks: i64) {
    let pool = server.pool(1);
    let held = "SELECT count(DISTINCT pid), count(*) FROM pg_locks WHERE locktype = 'advisory'";
    until_some("the keys are locked as they should be", async || {
        let held: (i64, i64) = tower_idempotency::sqlx::query_as(held).fetch_one(&pool).await.unwrap();
        (held == (connections, locks)).then_some(())
    })
    .await;
}

async fn nodes(server: &Server) -> [PostgresBackend; 2] {
    [backend_at(server.pool(5), "wakes").await, backend_at(server.pool(5), "wakes").await]
}

/// Counts what `end` does to a key that a waiter of another node waits for.
async fn is_told(end: impl AsyncFn(&PostgresBackend, Key, Token), left: Option<Entry>) {
    let server = Server::start(&[]);
    let [node, other] = nodes(&server).await;
    let (key, unwaited) = (Key::new("", "order-1"), Key::new("", "order-2"));
    let (token, token_of_unwaited) = (claim(&node, key).await, claim(&node, unwaited).await);
    let waiter = wait(&other, key);
    until_locked(&server, 1, 1).await;
    let mut listener = PgListener::connect_with(&server.pool(1)).await.unwrap();
    listener.listen(CHANNEL).await.unwrap();

    // Nobody waits for this one, so that nothing is said of it.
    end(&node, unwaited, token_of_unwaited).await;
    end(&node, key, token).await;
    assert_eq!(bounded(listener.recv()).await.unwrap().payload(), key.to_string());
    assert_eq!(waiter.await.unwrap(), left);
    until_locked(&server, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_is_told_that_a_run_has_completed() {
    is_told(async |node, key, token| complete(node, key, token).await, Some(Entry::Completed(record()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_is_told_that_a_key_was_given_back() {
    is_told(async |node, key, token| node.release(&key, token).await.unwrap(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_is_told_that_a_key_was_removed() {
    is_told(async |node, key, _| assert!(node.remove(&key).await.unwrap()), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_has_one_subscription_while_its_backend_lives() {
    let server = Server::start(&[]);
    let node = backend_at(server.pool(5), "wakes").await;
    let pool = server.pool(1);
    // The last statement of a connection that has nothing to do but to listen.
    let listeners = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%advisory_%lock_shared%'
            AND query NOT LIKE '%pg_stat_activity%'";
        query_scalar(count).fetch_one(&pool).await.unwrap()
    };
    let keys = ["order-1", "order-2", "order-3"].map(|text| Key::new("", text));
    let mut runs = Vec::new();
    for key in keys {
        runs.push((key, claim(&node, key).await));
    }
    assert_eq!(listeners().await, 0);

    let waiters: Vec<_> = keys.iter().flat_map(|&key| [wait(&node, key), wait(&node.clone(), key)]).collect();
    until_locked(&server, 1, 3).await;
    for (key, token) in runs {
        complete(&node, key, token).await;
    }
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    }
    assert_eq!(listeners().await, 1);

    drop(node);
    until_some("the subscription ends", async || (listeners().await == 0).then_some(())).await;
}

/// Ends the connections that hold a key's lock.
async fn cut_listeners(pool: &PgPool) {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'";
    let cut: i64 = query_scalar(cut).fetch_one(pool).await.unwrap();
    assert_eq!(cut, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wait_outlives_its_subscription_which_comes_back() {
    let (server, pool) = {
        let server = Server::start(&[]);
        let pool = server.pool(1);
        (server, pool)
    };
    let [node, other] = nodes(&server).await;
    for order in 0..5 {
        let key = Key::new("", order.to_string());
        let token = claim(&node, key).await;
        let waiter = wait(&other, key);
        until_locked(&server, 1, 1).await;
        cut_listeners(&pool).await;
        complete(&node, key, token).await;
        assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    }
}

/// Whoever may not hold a key's lock polls.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_may_not_lock_waits_all_the_same() {
    let server = Server::start(&[]);
    let forbid = "CREATE ROLE payments LOGIN; GRANT ALL ON SCHEMA public TO payments;
        REVOKE EXECUTE ON FUNCTION pg_advisory_lock_shared(bigint) FROM PUBLIC";
    server.pool(1).execute(forbid).await.unwrap();
    let pool = PgPoolOptions::new().connect_lazy_with(server.address().username("payments"));
    let node = backend_at(pool, "wakes").await;
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
    let node = backend_at(proxy.pool(5), "wakes").await;
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
    let [node, other] = nodes(&server).await;
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&other, key);
    until_locked(&server, 1, 1).await;
    let pool = server.pool(1);
    let mut listener = PgListener::connect_with(&server.pool(1)).await.unwrap();
    listener.listen(CHANNEL).await.unwrap();
    let another = Key::new("", "order-2").to_string();
    for forged in ["x", "'; DROP TABLE wakes; --", &"f".repeat(65), &"\u{e9}".repeat(32), &another, &key.to_string()] {
        query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(forged).execute(&pool).await.unwrap();
        assert_eq!(bounded(listener.recv()).await.unwrap().payload(), forged);
    }
    until_locked(&server, 1, 1).await; // it goes on waiting
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
}
