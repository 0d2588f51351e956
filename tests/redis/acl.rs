//! The user that `docs/redis.md` tells operators to create.

use http::StatusCode;
use tower_idempotency::{IdempotencyLayer, RedisBackend, testing::conformance};

use crate::{
    behaviour::support::Handler,
    support::{Application, Server},
};

/// The line of the page.
fn line() -> &'static str {
    let page = include_str!("../../docs/redis.md");
    page.lines().find(|line| line.starts_with("ACL SETUSER payments ")).expect("the page has it")
}

/// A server with that user, and the user's URL.
fn restricted() -> (Server, String) {
    let server = Server::start(&[]);
    server.ask::<()>(line());
    // Nobody else is let in by chance.
    let url = server.url().replace("redis://", "redis://payments:secret@");
    (server, url)
}

/// What was refused to the user, as `object (reason)`.
fn refusals(server: &Server) -> Vec<String> {
    let log: Vec<std::collections::HashMap<String, String>> = server.ask("ACL LOG");
    let mut refused: Vec<_> = log.iter().map(|entry| format!("{} ({})", entry["object"], entry["reason"])).collect();
    refused.sort();
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn is_allowed_what_the_backend_needs() {
    let (server, url) = restricted();
    conformance(|| async { RedisBackend::connect(&*url).await.expect("the user is let in") }).await;
    let backend = RedisBackend::connect(&*url).await.unwrap();
    assert_eq!(backend.eviction_policy().await.unwrap(), None);
    // What the backend can do without.
    assert_eq!(refusals(&server), ["config|get (command)"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn is_allowed_what_waiting_needs() {
    let (server, url) = restricted();
    let handler = Handler::held_payments();
    let layer = IdempotencyLayer::new(RedisBackend::connect(&*url).await.unwrap()).wait(crate::support::LONG);
    let node = Application::start(&handler, layer).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    let second = node.begin("order-1");
    crate::support::wait_until("the waiting request subscribes", || {
        let channels: Vec<String> = server.ask("PUBSUB CHANNELS");
        channels == ["idempotency:done"]
    });
    handler.open();
    assert_eq!(first.await.unwrap().status, StatusCode::CREATED);
    second.await.unwrap().assert_is_replay_of(1);
    assert!(refusals(&server).iter().all(|refused| refused == "config|get (command)"), "{:?}", refusals(&server));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn is_allowed_nothing_else() {
    let (server, url) = restricted();
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_connection().unwrap();
    for words in ["GET payments", "FLUSHALL", "KEYS *", "CONFIG SET maxmemory 1", "PUBLISH news hello", "DEBUG SLEEP 0"]
    {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        let refused = command.query::<redis::Value>(&mut connection).unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{refused}");
    }
    assert_eq!(server.ask::<usize>("DBSIZE"), 0);
}
