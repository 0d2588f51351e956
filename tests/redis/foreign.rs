//! Values under a key that this version of the crate has not written.

use tower_idempotency::{BackendFailure, IdempotencyLayer, Rejection};

use crate::{
    behaviour::support::Handler,
    support::{Application, SHARED, backend_at, fresh_name},
};

/// A completed payment, the key it has in Redis, and a node that would run it once it could be claimed.
async fn completed() -> (Application, Handler, String) {
    let (prefix, handler) = (fresh_name(), Handler::payments());
    let layer = IdempotencyLayer::new(backend_at(&SHARED.url(), &prefix).await);
    // Even where it would rather run twice than not at all: somebody has the key.
    let layer = layer.on_backend_failure(BackendFailure::RunUnprotected);
    let node = Application::start(&handler, layer).await;
    node.pay("order-1").await.assert_is_first_of(1);
    let keys: Vec<String> = SHARED.ask(&format!("KEYS {prefix}*"));
    let [key] = &keys[..] else { panic!("one key for one payment: {keys:?}") };
    let hash = key.strip_prefix(&prefix).unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    (node, handler, key.clone())
}

/// Changes the value with `commands`, in which `KEY` stands for the key.
async fn is_refused_and_left_alone(commands: &[&str]) {
    let (node, handler, key) = completed().await;
    for command in commands {
        SHARED.ask::<redis::Value>(&command.replace("KEY", &key));
    }
    let dump = || SHARED.ask::<Vec<u8>>(&format!("DUMP {key}"));
    let before = dump();
    node.pay("order-1").await.assert_is(Rejection::BackendUnavailable);
    assert_eq!(handler.runs(), 1);
    assert_eq!(dump(), before);

    SHARED.ask::<()>(&format!("DEL {key}"));
    node.pay("order-1").await.assert_is_first_of(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_foreign_value_is_refused_and_left_alone() {
    is_refused_and_left_alone(&["SET KEY hello"]).await;
    is_refused_and_left_alone(&["SETRANGE KEY 0 x"]).await;
    is_refused_and_left_alone(&["SET KEY "]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_value_of_another_type_is_refused_and_left_alone() {
    is_refused_and_left_alone(&["DEL KEY", "RPUSH KEY hello"]).await;
    is_refused_and_left_alone(&["DEL KEY", "HSET KEY hello there"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_value_of_a_newer_version_is_refused_and_left_alone() {
    is_refused_and_left_alone(&["SETRANGE KEY 4 2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_value_in_an_unknown_state_is_refused_and_left_alone() {
    is_refused_and_left_alone(&["SETRANGE KEY 5 X"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_value_that_comes_under_the_key_of_a_live_run_is_left_alone() {
    for commands in [&["SET KEY hello"][..], &["SET KEY "], &["DEL KEY", "RPUSH KEY hello"]] {
        let (prefix, handler) = (fresh_name(), Handler::held_payments());
        let layer = IdempotencyLayer::new(backend_at(&SHARED.url(), &prefix).await);
        let node = Application::start(&handler, layer).await;
        let first = node.begin("order-1");
        handler.entered(1).await;
        let keys: Vec<String> = SHARED.ask(&format!("KEYS {prefix}*"));
        for command in commands {
            SHARED.ask::<redis::Value>(&command.replace("KEY", &keys[0]));
        }
        let before: Vec<u8> = SHARED.ask(&format!("DUMP {}", keys[0]));
        handler.open();
        let answer = first.await.unwrap();
        assert!(!answer.is_replay(), "{answer:?}");
        node.pay("order-1").await.assert_is(Rejection::BackendUnavailable);
        assert_eq!(SHARED.ask::<Vec<u8>>(&format!("DUMP {}", keys[0])), before);
        assert_eq!(handler.runs(), 1);
    }
}
