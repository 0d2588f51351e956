//! What a user of Redis must be allowed, and no more.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;
use tower_idempotency::{Backend, Claim, Entry, Fingerprint, Key, Ownership, Record, RedisBackend, Token};

use crate::support::{LONG, Server, wait_until};

/// What `docs/redis.md` says that a user has to be allowed.
const LEAST: &str = "~idempotency:* &idempotency:* +ping +set +get +getrange +exists +pexpire +del +publish +subscribe \
                     +evalsha +eval";

/// What the client and the backend ask for and can do without: their names, and how the server evicts.
const SPARE: [&str; 3] = ["client", "client|setinfo", "config|get"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_who_may_do_the_least_can_do_everything() {
    let server = Server::start(&[]);
    server.ask::<()>(&format!("ACL SETUSER payments on >secret resetkeys resetchannels -@all {LEAST}"));
    let url = server.url().replace("redis://", "redis://payments:secret@");
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

    let log: Vec<HashMap<String, redis::Value>> = server.ask("ACL LOG");
    let refused: BTreeSet<String> =
        log.iter().map(|entry| redis::from_redis_value(entry["object"].clone()).unwrap()).collect();
    assert!(refused.iter().all(|object| SPARE.contains(&object.as_str())), "{refused:?}");
}
