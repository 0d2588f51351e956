//! Waiting duplicates of other nodes are told when a run has ended.

use std::{ops::AsyncFn, time::Duration};

use tower_idempotency::{Backend, Entry, Key, RedisBackend, Token};

use crate::{
    servers::runs::{claim, complete, record, wait},
    support::{Server, backend_at, wait_until},
};

const PREFIX: &str = "wakes:";
const CHANNEL: &str = "wakes:done";

fn subscribers(server: &Server) -> usize {
    let (_, count): (String, usize) = server.ask(&format!("PUBSUB NUMSUB {CHANNEL}"));
    count
}

fn wait_for_subscribers(server: &Server, count: usize) {
    tokio::task::block_in_place(|| {
        wait_until("the subscriptions are as they should be", || subscribers(server) == count);
    });
}

/// Counts what `end` does to a key that a waiter of another node waits for.
async fn is_told(end: impl AsyncFn(&RedisBackend, Key, Token), left: Option<Entry>) {
    let server = Server::start(&[]);
    let (node, other) = (backend_at(&server.url(), PREFIX).await, backend_at(&server.url(), PREFIX).await);
    let mut listener = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut listener = listener.as_pubsub();
    listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    listener.subscribe(CHANNEL).unwrap();
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&other, key);
    wait_for_subscribers(&server, 2);

    end(&node, key, token).await;
    assert_eq!(listener.get_message().unwrap().get_payload_bytes(), key.as_bytes());
    assert_eq!(waiter.await.unwrap(), left);
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
    let node = backend_at(&server.url(), PREFIX).await;
    let keys = ["order-1", "order-2", "order-3"].map(|text| Key::new("", text));
    let mut runs = Vec::new();
    for key in keys {
        runs.push((key, claim(&node, key).await));
    }
    assert_eq!(subscribers(&server), 0);

    let waiters: Vec<_> = keys.iter().flat_map(|&key| [wait(&node, key), wait(&node.clone(), key)]).collect();
    wait_for_subscribers(&server, 1);
    for (key, token) in runs {
        complete(&node, key, token).await;
    }
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    }
    assert_eq!(subscribers(&server), 1);

    drop(node);
    wait_for_subscribers(&server, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wait_outlives_its_subscription_which_comes_back() {
    let server = Server::start(&[]);
    let (node, other) = (backend_at(&server.url(), PREFIX).await, backend_at(&server.url(), PREFIX).await);
    for order in 0..5 {
        let key = Key::new("", order.to_string());
        let token = claim(&node, key).await;
        let waiter = wait(&other, key);
        wait_for_subscribers(&server, 1);
        assert_eq!(server.ask::<usize>("CLIENT KILL TYPE pubsub"), 1);
        complete(&node, key, token).await;
        assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    }
    wait_for_subscribers(&server, 1);
}

/// Whoever may not publish or subscribe, as new users of Redis 7 may not, polls.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_may_not_use_the_channel_waits_all_the_same() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER payments on >secret resetchannels ~wakes:* +@all -@dangerous");
    let url = server.url().replace("redis://", "redis://payments:secret@");
    let node = backend_at(&url, PREFIX).await;
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&node, key);
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    assert_eq!(subscribers(&server), 0);
    // CONFIG is dangerous: nothing can be said.
    assert_eq!(node.eviction_policy().await.unwrap(), None);
    node.ping().await.unwrap();
}

/// Whoever may publish can make waiters look, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forged_notice_ends_no_wait() {
    let server = Server::start(&[]);
    let node = backend_at(&server.url(), PREFIX).await;
    let reads = || {
        let statistics: String = server.ask("INFO commandstats");
        let of_get = statistics.split("cmdstat_get:calls=").nth(1).and_then(|rest| rest.split(',').next());
        of_get.map_or(0, |calls| calls.parse::<usize>().unwrap())
    };
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&node, key);
    wait_for_subscribers(&server, 1);
    let another = Key::new("", "order-2");
    for forged in [b"".as_slice(), b"\0", &[0xff; 33], another.as_bytes(), &vec![0; 1 << 20], key.as_bytes()] {
        let before = reads();
        let mut connection = server.connect().unwrap();
        redis::cmd("PUBLISH").arg(CHANNEL).arg(forged).exec(&mut connection).unwrap();
        if forged == key.as_bytes() {
            tokio::task::block_in_place(|| wait_until("it has looked", || reads() > before));
        }
    }
    assert_eq!(subscribers(&server), 1);
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
}
