//! What earlier versions have left in Redis is read as it was meant, and today's code writes the same.

use std::time::Duration;

use http::StatusCode;
use tower_idempotency::{
    Backend, BackendFailure, Claim, Fingerprint, IdempotencyLayer, Key, Ownership, Record, RedisBackend, Rejection,
    Token,
};

use crate::{
    behaviour::support::{Answer, Client, Handler, serve, until_some},
    fixtures::{FINGERPRINT, Fixture, NEXT, TOKEN, VERSIONS},
    support::{LONG, SHARED, backend_at, fresh_name, order},
};

/// A node of today over a store of its own, in which anything can be planted.
struct Heir {
    prefix: String,
    handler: Handler,
    client: Client,
}

impl Heir {
    async fn start() -> Self {
        let (prefix, handler) = (fresh_name(), Handler::payments());
        // Even where it would rather run twice than not at all: somebody has the key.
        let layer = IdempotencyLayer::new(backend_at(&SHARED.url(), &prefix).await)
            .on_backend_failure(BackendFailure::RunUnprotected);
        let client = Client::http2(serve(handler.router().layer(layer)).await).await;
        Self { prefix, handler, client }
    }

    async fn backend(&self) -> RedisBackend {
        backend_at(&SHARED.url(), &self.prefix).await
    }

    fn name(&self, text: &str) -> String {
        format!("{}{}", self.prefix, Key::new("", text))
    }

    fn plant(&self, text: &str, value: &[u8]) {
        let mut set = redis::cmd("SET");
        set.arg(self.name(text)).arg(value).arg("PX").arg(600_000);
        set.exec(&mut SHARED.connect().unwrap()).unwrap();
    }

    fn found(&self, text: &str) -> Vec<u8> {
        SHARED.ask(&format!("GET {}", self.name(text)))
    }

    async fn pay(&self, text: &str) -> Answer {
        self.client.ask(order(text)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_of_every_version_are_replayed_and_left_as_they_are() {
    for version in &VERSIONS {
        let heir = Heir::start().await;
        for Fixture { kind, redis, .. } in &version.fixtures {
            heir.plant(kind.name(), redis);
            let answer = heir.pay(kind.name()).await;
            match kind.recorded() {
                Some(recorded) => {
                    recorded.assert_is(answer.status, &answer.headers, &answer.body, answer.trailers.as_ref());
                }
                None => answer.assert_is(kind.rejection()),
            }
            assert_eq!(heir.found(kind.name()), *redis);
        }
        assert_eq!(heir.handler.runs(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_every_version_are_respected_until_they_expire() {
    for version in &VERSIONS {
        let heir = Heir::start().await;
        heir.plant("claim", version.claim);
        heir.pay("claim").await.assert_is(Rejection::InProgress);
        assert_eq!((heir.handler.runs(), heir.found("claim")), (0, version.claim.to_vec()));

        SHARED.ask::<()>(&format!("PEXPIRE {} 50", heir.name("claim")));
        let answer = until_some("the claim expires", async || {
            let answer = heir.pay("claim").await;
            (answer.status == StatusCode::CREATED).then_some(answer)
        });
        answer.await.assert_is_first_of(1);
        heir.pay("claim").await.assert_is_replay_of(1);
    }
}

/// The holder of a claim that an earlier version made, in a process that has been replaced since, or has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_every_version_can_be_renewed_completed_and_released_by_their_token() {
    let (key, token) = (Key::new("", "claim"), Token::from_bytes(TOKEN));
    for version in &VERSIONS {
        let heir = Heir::start().await;
        let backend = heir.backend().await;
        heir.plant("claim", version.claim);
        assert_eq!(backend.renew(&key, Token::random(), LONG).await.unwrap(), Ownership::Lost);
        assert_eq!(backend.renew(&key, token, LONG).await.unwrap(), Ownership::Held);
        for Fixture { record, .. } in &version.fixtures {
            heir.plant("claim", version.claim);
            let record = Record::from_bytes(record.to_vec().into()).unwrap();
            assert_eq!(backend.complete(&key, Token::random(), &record, LONG).await.unwrap(), Ownership::Lost);
            assert_eq!(backend.complete(&key, token, &record, LONG).await.unwrap(), Ownership::Held);
        }
        heir.plant("claim", version.claim);
        backend.release(&key, Token::random()).await.unwrap();
        assert_eq!(heir.found("claim"), version.claim);
        backend.release(&key, token).await.unwrap();
        assert!(!SHARED.ask::<bool>(&format!("EXISTS {}", heir.name("claim"))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_today_is_the_written_version_byte_for_byte() {
    let (key, token, of) = (Key::new("", "new"), Token::from_bytes(TOKEN), Fingerprint::from_bytes(FINGERPRINT));
    for version in VERSIONS.iter().filter(|version| version.is_written) {
        for Fixture { kind, record, redis } in &version.fixtures {
            let heir = Heir::start().await;
            let backend = heir.backend().await;
            assert!(matches!(backend.claim(&key, token, &of, LONG).await.unwrap(), Claim::Acquired));
            assert_eq!(heir.found("new"), version.claim);
            let record = Record::from_bytes(record.to_vec().into()).unwrap();
            assert_eq!(backend.complete(&key, token, &record, LONG).await.unwrap(), Ownership::Held);
            assert_eq!(heir.found("new"), *redis, "{kind:?}");
        }
    }
}

/// Of the value, or of the record in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_newer_version_has_written_is_refused_and_left_alone() {
    let heir = Heir::start().await;
    let newest = &VERSIONS[VERSIONS.len() - 1];
    let values = newest.fixtures.iter().map(|fixture| fixture.redis).chain([newest.claim]);
    for (number, value) in values.enumerate() {
        for (place, version) in [(4, b'0' + NEXT), (22, NEXT)] {
            let text = format!("newer-{number}-{place}");
            let mut newer = value.to_vec();
            if place == 22 && newer[5] == b'P' {
                continue; // a claim holds no record
            }
            newer[place] = version;
            heir.plant(&text, &newer);
            heir.pay(&text).await.assert_is(Rejection::BackendUnavailable);
            assert_eq!(heir.found(&text), newer);
        }
    }
    assert_eq!(heir.handler.runs(), 0);
    assert!(Duration::from_millis(SHARED.ask(&format!("PTTL {}", heir.name("newer-0-4")))) <= LONG);
}
