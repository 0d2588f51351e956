//! What happens when a store is full.

use super::*;
use crate::{
    MemoryBackend,
    backend::memory::{shard::Slot, slab::Slab, store::shard_count},
};

#[test]
fn records_leave_in_the_order_of_completion() {
    let fixture = Fixture::bounded(3, 1 << 20);
    fixture.acquire(key(0), OURS);
    fixture.run(key(1), &record(60));
    assert_eq!(fixture.complete(key(0), OURS, &record(60)), Ok(Ownership::Held));
    fixture.run(key(2), &record(60));
    assert_eq!(fixture.claim(key(1), THEIRS), Ok(Claim::Completed(record(60))), "a replay is no reason to stay");

    fixture.acquire(key(3), OURS);
    assert_eq!([0, 1, 2, 3].map(|number| fixture.holds(key(number))), [true, false, true, true]);
    fixture.acquire(key(4), OURS);
    assert_eq!([0, 2, 3, 4].map(|number| fixture.holds(key(number))), [false, true, true, true]);
    fixture.assert_consistent();
}

#[test]
fn a_removed_record_leaves_its_neighbours_in_order() {
    let fixture = Fixture::bounded(4, 1 << 20);
    (0..4).for_each(|number| fixture.run(key(number), &record(60)));
    for gone in [1, 0] {
        assert!(fixture.store.remove(&key(gone), fixture.now));
        fixture.assert_consistent();
    }
    (4..7).for_each(|number| fixture.run(key(number), &record(60)));
    assert_eq!([2, 3, 4, 5, 6].map(|number| fixture.holds(key(number))), [false, true, true, true, true]);
}

#[test]
fn a_large_record_takes_the_place_of_the_oldest_ones() {
    let fixture = Fixture::bounded(100, 1000);
    (0..10).for_each(|number| fixture.run(key(number), &record(100)));
    fixture.run(key(10), &record(250));
    assert_eq!(fixture.bytes(), 950);
    assert_eq!([2, 3, 10].map(|number| fixture.holds(key(number))), [false, true, true]);
    fixture.assert_consistent();
}

#[test]
fn claims_stay_however_many_records_press() {
    let fixture = Fixture::bounded(8, 1000);
    (0..7).for_each(|number| fixture.acquire(key(number), OURS));
    (100..1100).for_each(|number| fixture.run(key(number), &record(60 + number % 900)));
    assert!((0..7).all(|number| fixture.claim(key(number), OURS) == Ok(Claim::Acquired)));
    assert_eq!(fixture.len(), 8);
    fixture.assert_consistent();
}

#[test]
fn a_store_of_nothing_but_claims_is_full_until_one_ends() {
    let mut fixture = Fixture::bounded(4, 1000);
    (0..4).for_each(|number| fixture.acquire(key(number), OURS));
    assert_eq!(fixture.claim(key(4), OURS), Err(BackendErrorKind::Full));
    assert_eq!(fixture.complete(key(4), OURS, &record(60)), Err(BackendErrorKind::Full));
    assert_eq!(fixture.claim(key(0), OURS), Ok(Claim::Acquired), "a claim that is there needs no room");

    fixture.store.release(&key(0), OURS, fixture.now);
    fixture.acquire(key(4), OURS);
    fixture.pass(LEASE);
    fixture.acquire(key(5), OURS);
    fixture.assert_consistent();
}

#[test]
fn a_record_that_could_never_be_kept_leaves_the_claim_as_it_was() {
    let fixture = Fixture::bounded(4, 1000);
    fixture.run(key(1), &record(900));
    fixture.acquire(key(0), OURS);
    let before = fixture.snapshot(key(0));
    assert_eq!(fixture.complete(key(0), OURS, &record(1001)), Err(BackendErrorKind::TooLarge));
    assert_eq!(fixture.snapshot(key(0)), before);
    assert!(fixture.holds(key(1)), "nothing left for a record that cannot come");
    assert_eq!(fixture.complete(key(2), OURS, &record(1001)), Err(BackendErrorKind::TooLarge));

    assert_eq!(fixture.complete(key(0), OURS, &record(1000)), Ok(Ownership::Held));
    assert_eq!(fixture.complete(key(0), OURS, &record(1001)), Ok(Ownership::Held), "there is one already");
    assert_eq!(fixture.complete(key(0), THEIRS, &record(1001)), Ok(Ownership::Lost));
    fixture.assert_consistent();
}

#[test]
fn parts_are_large_or_there_is_only_one() {
    let count = |entries, bytes| shard_count(Bounds { entries, bytes });
    assert_eq!(count(1, 1), 1);
    assert_eq!(count(2047, 1 << 30), 1);
    assert_eq!(count(2048, 1 << 30), 2);
    assert_eq!(count(1_000_000, 256 << 20), 32);
    assert_eq!(count(7 * 1024, 1 << 30), 4);
    assert_eq!(count(usize::MAX, usize::MAX), 64);
}

#[test]
fn a_store_of_many_parts_keeps_its_bounds() {
    let fixture = Fixture::bounded(64 * 1024, 1 << 30);
    (0..70_000).for_each(|number| fixture.run(key(number), &record(50)));
    assert!(fixture.len() <= 64 * 1024);
    assert!(fixture.len() > 62 * 1024, "{} are kept: keys are not spread evenly", fixture.len());
    fixture.assert_consistent();
}

#[test]
fn the_room_of_a_live_record_does_not_grow_unnoticed() {
    if cfg!(target_pointer_width = "64") {
        assert_eq!(Slab::<Slot>::PLACE_SIZE, 96);
    }
}

#[test]
#[should_panic(expected = "no entries")]
fn a_store_for_no_entries_is_refused() {
    let _ = MemoryBackend::with_limits(0, 1);
}

#[test]
#[should_panic(expected = "no bytes")]
fn a_store_for_no_bytes_is_refused() {
    let _ = MemoryBackend::with_limits(1, 0);
}
