//! Long random histories, against a store that is a plain map.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::Entry;

const OPERATIONS: usize = 100_000;
const KEYS: usize = 60;

/// A seed from the environment, or a fresh one, printed for the case that the test fails.
#[expect(clippy::print_stdout, reason = "the test harness shows it when the test fails")]
fn random() -> StdRng {
    let seed = std::env::var("MEMORY_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("replay with MEMORY_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The table of `Backend`, written down once more in the simplest way.
#[derive(Default)]
struct Model(HashMap<Key, (Token, Instant, Entry)>);

impl Model {
    fn live(&mut self, key: Key, now: Instant) -> Option<&mut (Token, Instant, Entry)> {
        self.0.retain(|_, (_, deadline, _)| now < *deadline);
        self.0.get_mut(&key)
    }

    fn claim(&mut self, key: Key, token: Token, lease: Duration, now: Instant) -> Claim {
        match self.live(key, now) {
            None => {
                self.0.insert(key, (token, now + lease, Entry::InProgress { fingerprint: fingerprint(token) }));
                Claim::Acquired
            }
            Some((_, _, Entry::Completed(record))) => Claim::Completed(record.clone()),
            Some((holder, _, _)) if *holder == token => Claim::Acquired,
            Some((_, _, Entry::InProgress { fingerprint })) => Claim::InProgress { fingerprint: *fingerprint },
        }
    }

    fn renew(&mut self, key: Key, token: Token, lease: Duration, now: Instant) -> Ownership {
        match self.live(key, now) {
            Some((holder, deadline, Entry::InProgress { .. })) if *holder == token => {
                *deadline = now + lease;
                Ownership::Held
            }
            _ => Ownership::Lost,
        }
    }

    fn complete(&mut self, key: Key, token: Token, record: &Record, retention: Duration, now: Instant) -> Ownership {
        match self.live(key, now) {
            Some((holder, _, _)) if *holder != token => return Ownership::Lost,
            Some((_, _, Entry::Completed(_))) => return Ownership::Held,
            _ => self.0.insert(key, (token, now + retention, Entry::Completed(record.clone()))),
        };
        Ownership::Held
    }

    fn release(&mut self, key: Key, token: Token, now: Instant) {
        if let Some((holder, _, Entry::InProgress { .. })) = self.live(key, now)
            && *holder == token
        {
            self.0.remove(&key);
        }
    }

    fn get(&mut self, key: Key, now: Instant) -> Option<Entry> {
        self.live(key, now).map(|(_, _, entry)| entry.clone())
    }
}

#[test]
fn a_roomy_store_answers_like_a_plain_map() {
    let mut random = random();
    let mut fixture = Fixture::new();
    let mut model = Model::default();
    for step in 0..OPERATIONS {
        fixture.pass(Duration::from_millis(random.random_range(0..200)));
        let now = fixture.now;
        let key = key(random.random_range(0..KEYS));
        let token = Token::from_bytes([random.random_range(0..3); Token::LEN]);
        let life = Duration::from_millis(random.random_range(0..20_000));
        let store = &fixture.store;
        match random.random_range(0..10) {
            0..4 => {
                let answer = store.claim(&key, token, &fingerprint(token), life, now).unwrap();
                assert_eq!(answer, model.claim(key, token, life, now), "step {step}");
            }
            4..6 => {
                let record = record(random.random_range(50..2000));
                let answer = store.complete(&key, token, &record, life, now).unwrap();
                assert_eq!(answer, model.complete(key, token, &record, life, now), "step {step}");
            }
            6 => assert_eq!(store.renew(&key, token, life, now), model.renew(key, token, life, now), "step {step}"),
            7 => {
                store.release(&key, token, now);
                model.release(key, token, now);
            }
            8 => assert_eq!(store.get(&key, now), model.get(key, now), "step {step}"),
            _ => assert_eq!(store.remove(&key, now), model.live(key, now).is_some() && model.0.remove(&key).is_some()),
        }
        if step % 100 == 0 {
            fixture.assert_consistent();
        }
    }
}

/// A store under pressure may forget records, oldest first; nothing else.
#[test]
fn a_tight_store_forgets_nothing_but_records() {
    const ENTRIES: usize = 20;
    let mut random = random();
    let mut fixture = Fixture::bounded(ENTRIES, 5000);
    let mut model = Model::default();
    let mut full = 0;
    for step in 0..OPERATIONS {
        fixture.pass(Duration::from_millis(random.random_range(0..200)));
        let now = fixture.now;
        let (key, token) =
            (key(random.random_range(0..KEYS)), Token::from_bytes([random.random_range(0..3); Token::LEN]));
        let life = Duration::from_millis(random.random_range(0..10_000));
        if model.get(key, now).is_some_and(|entry| matches!(entry, Entry::Completed(_))) && !fixture.holds(key) {
            model.0.remove(&key);
        }
        assert_eq!(fixture.store.get(&key, now), model.get(key, now), "step {step}");
        if random.random_range(0..3) < 2 {
            match fixture.store.claim(&key, token, &fingerprint(token), life, now) {
                Ok(answer) => assert_eq!(answer, model.claim(key, token, life, now), "step {step}"),
                Err(error) => {
                    assert_eq!(error, BackendErrorKind::Full);
                    let live = |entry: &Entry| matches!(entry, Entry::InProgress { .. });
                    assert_eq!(model.0.values().filter(|(_, _, entry)| live(entry)).count(), ENTRIES, "step {step}");
                    full += 1;
                }
            }
        } else if model.get(key, now).is_some() {
            let record = record(random.random_range(50..2000));
            let answer = fixture.store.complete(&key, token, &record, life, now).unwrap();
            assert_eq!(answer, model.complete(key, token, &record, life, now), "step {step}");
        }
        if step % 100 == 0 {
            fixture.assert_consistent();
        }
    }
    assert!(full > 100, "the store was never short of room: {full}");
}
