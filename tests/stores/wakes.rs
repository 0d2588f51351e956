//! Waiting duplicates of other nodes are told when a run has ended.

use std::ops::AsyncFn;

use tower_idempotency::{Backend, Entry, Key, Token};

use crate::{
    behaviour::support::{bounded, until_some},
    servers::runs::{claim, complete, record, wait},
    support::{
        Server,
        store::{Notices, Store, backend_over, cut_subscription, subscriptions, until_waited_for},
    },
};

/// What all nodes of a server share, each test having a server of its own.
pub(crate) const NAME: &str = "wakes";

/// Does to a key that a waiter of another node waits for what `end` does.
async fn assert_is_told(end: impl AsyncFn(&Store, Key, Token), left: Option<Entry>) {
    let server = Server::start(&[]);
    let (node, other) = (backend_over(&server, NAME).await, backend_over(&server, NAME).await);
    let key = Key::new("", "order-1");
    let token = claim(&node, key).await;
    let waiter = wait(&other, key);
    until_waited_for(&server, 1).await;
    let mut notices = Notices::listen(&server).await;

    end(&node, key, token).await;
    assert_eq!(bounded(notices.next()).await, Notices::of(key));
    assert_eq!(waiter.await.unwrap(), left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_is_told_that_a_run_has_completed() {
    let completed = Some(Entry::Completed(record()));
    assert_is_told(async |node, key, token| complete(node, key, token).await, completed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_is_told_that_a_key_was_given_back() {
    assert_is_told(async |node, key, token| node.release(&key, token).await.unwrap(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_is_told_that_a_key_was_removed() {
    assert_is_told(async |node, key, _| assert!(node.remove(&key).await.unwrap()), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_has_one_subscription_while_its_backend_lives() {
    let server = Server::start(&[]);
    let node = backend_over(&server, NAME).await;
    let keys = ["order-1", "order-2", "order-3"].map(|text| Key::new("", text));
    let mut runs = Vec::new();
    for key in keys {
        runs.push((key, claim(&node, key).await));
    }
    assert_eq!(subscriptions(&server).await, 0);

    let waiters: Vec<_> = keys.iter().flat_map(|&key| [wait(&node, key), wait(&node.clone(), key)]).collect();
    until_waited_for(&server, 3).await;
    for (key, token) in runs {
        complete(&node, key, token).await;
    }
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    }
    assert_eq!(subscriptions(&server).await, 1);

    drop(node);
    until_some("the subscription ends", async || (subscriptions(&server).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wait_outlives_its_subscription_which_comes_back() {
    let server = Server::start(&[]);
    let (node, other) = (backend_over(&server, NAME).await, backend_over(&server, NAME).await);
    for order in 0..5 {
        let key = Key::new("", order.to_string());
        let token = claim(&node, key).await;
        let waiter = wait(&other, key);
        until_waited_for(&server, 1).await;
        cut_subscription(&server).await;
        complete(&node, key, token).await;
        assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
    }
}
