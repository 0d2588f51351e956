//! What a user of Redis must be allowed, and no more.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;
use tower_idempotency::{
    Backend, Claim, Entry, Fingerprint, Key, Ownership, Record, RedisBackend, Token, testing::conformance,
};

use crate::support::{LONG, Server, wait_until};

/// The command by which `docs/redis.md` makes a user.
fn least() -> &'static str {
    let page = include_str!("../../docs/redis.md");
    page.lines().find(|line| line.starts_with("ACL SETUSER payments ")).expect("the page has it")
}

/// A server with that user, and its URL for the user.
fn restricted() -> (Server, String) {
    let server = Server::start(&[]);
    server.ask::<()>(least());
    let url = server.url().replace("redis://", "redis://payments:secret@");
    (server, url)
}

/// What the client and the backend ask for and can do without: their names, and how the server evicts.
const SPARE: [&str; 3] = ["client", "client|setinfo", "config|get"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_who_may_do_the_least_can_do_everything() {
    let (server, url) = restricted();
    let backend = RedisBackend::connect(url.as_str()).await.unwrap();

    backend.ping().await.unwrap();
    let (key, fingerprint) = (Key::new("", "order-1"), Fingerprint::of("order-1"));
    let record = Record::value(&fingerprint, b"done");
    for is_kept in [true, false] {
        let token = Token::random();
        assert_eq!(backend.claim(&key, token, &fingerprint, LONG).await.unwrap(), Claim::Acquired);
        assert_eq!(backend.renew(&key, token, LONG).await.unwrap(), Ownership::Held);
        let waiter = tokio::spawn({
            let backend = backend.clone();
            async move { backend.wait(&key, Instant::now() + LONG).await.unwrap() }
        });
        let subscribers = || server.ask::<(String, usize)>("PUBSUB NUMSUB idempotency:done").1;
        tokio::task::block_in_place(|| wait_until("the waiter listens", || subscribers() == 1));
        if is_kept {
            assert_eq!(backend.complete(&key, token, &record, LONG).await.unwrap(), Ownership::Held);
            assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record.clone())));
            assert!(backend.remove(&key).await.unwrap());
        } else {
            backend.release(&key, token).await.unwrap();
            assert_eq!(waiter.await.unwrap(), None);
        }
        // An absent key takes other branches of the scripts.
        assert_eq!(backend.renew(&key, token, LONG).await.unwrap(), Ownership::Lost);
        assert_eq!(backend.complete(&key, token, &record, LONG).await.unwrap(), Ownership::Held);
        assert!(backend.remove(&key).await.unwrap());
        backend.release(&key, token).await.unwrap();
    }

    assert_is_spare(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_laws_hold_for_a_user_who_may_do_the_least() {
    let (server, url) = restricted();
    conformance(|| async { RedisBackend::connect(url.as_str()).await.expect("the user is let in") }).await;
    let backend = RedisBackend::connect(url.as_str()).await.unwrap();
    assert_eq!(backend.eviction_policy().await.unwrap(), None);
    assert_is_spare(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_who_may_do_the_least_may_do_nothing_else() {
    let (server, url) = restricted();
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
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

/// What was refused is nothing that is needed.
#[track_caller]
fn assert_is_spare(server: &Server) {
    let log: Vec<HashMap<String, redis::Value>> = server.ask("ACL LOG");
    let refused: BTreeSet<String> =
        log.iter().map(|entry| redis::from_redis_value(entry["object"].clone()).unwrap()).collect();
    assert!(refused.iter().all(|object| SPARE.contains(&object.as_str())), "{refused:?}");
}
