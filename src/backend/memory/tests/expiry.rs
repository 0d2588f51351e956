//! How what has expired is freed.

use super::*;
use crate::backend::memory::shard::SWEEP;

const CROWD: usize = 100_000;

/// A single shard with `CROWD` records, all of which have expired.
fn expired_crowd() -> Fixture {
    let mut fixture = Fixture::bounded(2 * CROWD, 15 << 20);
    (0..CROWD).for_each(|number| fixture.run(key(number), &record(50)));
    fixture.pass(RETENTION);
    fixture
}

#[test]
fn no_command_frees_more_than_a_few_of_a_crowd_that_expires_at_once() {
    let fixture = expired_crowd();
    for number in CROWD..CROWD + 1000 {
        let before = fixture.len();
        fixture.acquire(key(number), OURS);
        assert!(before + 1 - fixture.len() <= SWEEP as usize);
    }
    assert!(!fixture.store.remove(&key(0), fixture.now), "not freed yet or not, it is gone");
}

#[test]
fn a_crowd_that_expired_is_freed_long_before_as_many_have_come() {
    let fixture = expired_crowd();
    for number in 0..CROWD / 3 {
        fixture.acquire(key(CROWD + number), OURS);
    }
    assert_eq!(fixture.len(), CROWD / 3);
    assert_eq!(fixture.bytes(), 0);
    fixture.assert_consistent();
}

#[test]
fn dead_claims_do_not_fill_a_store() {
    let mut fixture = Fixture::bounded(100, 1000);
    for number in 0..10_000 {
        fixture.acquire(key(number), OURS);
        fixture.pass(LEASE / 90);
    }
    fixture.assert_consistent();
}

#[test]
fn short_retentions_leave_before_long_ones_that_are_older() {
    let mut fixture = Fixture::new();
    fixture.run(key(0), &record(60));
    let short = Duration::from_secs(1);
    for number in 1..500 {
        assert_eq!(fixture.store.complete(&key(number), OURS, &record(60), short, fixture.now), Ok(Ownership::Held));
    }
    fixture.pass(short);
    (500..1000).for_each(|number| fixture.acquire(key(number), OURS));
    assert_eq!(fixture.len(), 501);
    assert_eq!(fixture.bytes(), 60);
    assert!(fixture.holds(key(0)));
}

#[test]
fn nothing_is_counted_when_everything_has_left() {
    let mut fixture = Fixture::new();
    for number in 0..100 {
        fixture.run(key(number), &record(50 + 30 * number));
        fixture.acquire(key(1000 + number), OURS);
    }
    (0..50).for_each(|number| assert!(fixture.store.remove(&key(number), fixture.now)));
    (1000..1050).for_each(|number| fixture.store.release(&key(number), OURS, fixture.now));
    fixture.pass(RETENTION);
    (0..1100)
        .for_each(|number| assert_eq!(fixture.store.renew(&key(number), OURS, LEASE, fixture.now), Ownership::Lost));
    assert_eq!((fixture.len(), fixture.bytes()), (0, 0));
    assert_eq!(fixture.store.sum(Shard::claims), 0);
    fixture.assert_consistent();
}
