//! Who cannot subscribe, and what makes waiting duplicates look. The rest is in `tests/stores/`.

use tower_idempotency::{Entry, Key};

use crate::{
    servers::runs::{claim, complete, record, wait},
    stores::wakes::NAME,
    support::{
        Server, backend_at,
        store::{backend_over, cut_subscription, subscriptions, until_waited_for},
        wait_until,
    },
};

/// It is there before somebody waits again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subscription_that_is_cut_comes_back_by_itself() {
    let server = Server::start(&[]);
    let node = backend_over(&server, NAME).await;
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&node, key);
    until_waited_for(&server, 1).await;
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    cut_subscription(&server).await;
    until_waited_for(&server, 1).await;
}

/// Whoever may not publish or subscribe, as new users of Redis 7 may not, polls.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_may_not_use_the_channel_waits_all_the_same() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER payments on >secret resetchannels ~wakes* +@all -@dangerous");
    let url = server.url().replace("redis://", "redis://payments:secret@");
    let node = backend_at(&url, NAME).await;
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&node, key);
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    assert_eq!(subscriptions(&server).await, 0);
    // CONFIG is dangerous: nothing can be said.
    assert_eq!(node.eviction_policy().await.unwrap(), None);
    node.ping().await.unwrap();
}

/// Whoever may publish can make waiters look, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forged_notice_ends_no_wait() {
    let server = Server::start(&[]);
    let node = backend_over(&server, NAME).await;
    let reads = || {
        let statistics: String = server.ask("INFO commandstats");
        let of_get = statistics.split("cmdstat_get:calls=").nth(1).and_then(|rest| rest.split(',').next());
        of_get.map_or(0, |calls| calls.parse::<usize>().unwrap())
    };
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&node, key);
    until_waited_for(&server, 1).await;
    let another = Key::new("", "order-2");
    for forged in [b"".as_slice(), b"\0", &[0xff; 33], another.as_bytes(), &vec![0; 1 << 20], key.as_bytes()] {
        let before = reads();
        let mut connection = server.connect().unwrap();
        redis::cmd("PUBLISH").arg(format!("{NAME}done")).arg(forged).exec(&mut connection).unwrap();
        if forged == key.as_bytes() {
            tokio::task::block_in_place(|| wait_until("it has looked", || reads() > before));
        }
    }
    assert_eq!(subscriptions(&server).await, 1);
    complete(&node, key, token).await;
    assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
}
