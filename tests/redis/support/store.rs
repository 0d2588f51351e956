//! What `tests/stores/` has to know of Redis.

use redis::{Script, aio::PubSub};
use tokio_stream::StreamExt;
use tower_idempotency::{Backend, Key, Ownership, RedisBackend};

use super::{Command, Fate, Proxy, SHARED, Server, backend_at, fresh_name};
use crate::{
    behaviour::support::until_some,
    servers::{
        LONG,
        runs::{claim, complete},
    },
};

pub(crate) type Store = RedisBackend;
pub(crate) type Sent = Command;

/// A server that has what it has answered when it was killed: it is on the disk before.
pub(crate) fn durable() -> Server {
    Server::start(&["appendonly yes", "appendfsync always"])
}

pub(crate) async fn backend_over(server: &Server, name: &str) -> Store {
    backend_at(&server.url(), name).await
}

/// A backend over the shared server, for tests that count or choose commands.
pub(crate) async fn backend_behind(proxy: &Proxy, name: &str) -> Store {
    teach_scripts(&SHARED).await;
    backend_at(&proxy.url(), name).await
}

/// Sends a server the scripts of owners, so that from now on they go by their hashes, and each is sent once.
pub(crate) async fn teach_scripts(server: &Server) {
    let backend = backend_over(server, &fresh_name()).await;
    let key = Key::new("", "order-1");
    let token = claim(&backend, key).await;
    complete(&backend, key, token).await;
    assert_eq!(backend.renew(&key, token, LONG).await.unwrap(), Ownership::Lost);
    backend.release(&key, token).await.unwrap();
}

/// After these a command is sent once more for the same request. A connection that falls silent is replaced first.
pub(crate) const LOSSES: [Fate; 2] = [Fate::LoseReply, Fate::Lose];

pub(crate) fn is_claim(command: &Command) -> bool {
    command.is_claim()
}

fn runs(command: &Command, script: &str) -> bool {
    command.has(Script::new(script).get_hash())
}

pub(crate) fn is_record(command: &Command) -> bool {
    runs(command, include_str!("../../../src/backend/redis/complete.lua"))
}

pub(crate) fn is_release(command: &Command) -> bool {
    runs(command, include_str!("../../../src/backend/redis/release.lua"))
}

pub(crate) fn is_heartbeat(command: &Command) -> bool {
    runs(command, include_str!("../../../src/backend/redis/renew.lua"))
}

/// How many connections are subscribed.
pub(crate) async fn subscriptions(server: &Server) -> usize {
    server.ask::<String>("CLIENT LIST TYPE pubsub").lines().count()
}

/// Waits until one node is subscribed, which it is once for all keys.
pub(crate) async fn until_waited_for(server: &Server, _keys: usize) {
    until_some("a node is subscribed", async || (subscriptions(server).await == 1).then_some(())).await;
}

pub(crate) async fn cut_subscription(server: &Server) {
    assert_eq!(server.ask::<usize>("CLIENT KILL TYPE pubsub"), 1);
}

/// What nodes publish.
pub(crate) struct Notices(PubSub);

impl Notices {
    pub(crate) async fn listen(server: &Server) -> Self {
        let mut subscription = redis::Client::open(server.url()).unwrap().get_async_pubsub().await.unwrap();
        subscription.psubscribe("*").await.unwrap();
        Self(subscription)
    }

    pub(crate) fn of(key: Key) -> Vec<u8> {
        key.as_bytes().to_vec()
    }

    pub(crate) async fn next(&mut self) -> Vec<u8> {
        self.0.on_message().next().await.expect("the server is up").get_payload_bytes().to_vec()
    }
}
