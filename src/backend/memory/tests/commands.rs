//! The table of `Backend`, cell by cell.

use super::*;
use crate::Entry;

/// The columns of the table.
#[derive(Debug, Clone, Copy)]
enum Column {
    Absent,
    ExpiredClaim,
    ExpiredRecord,
    InProgressOwn,
    InProgressOther,
    CompletedOwn,
    CompletedOther,
}

use Column::*;

const COLUMNS: [Column; 7] =
    [Absent, ExpiredClaim, ExpiredRecord, InProgressOwn, InProgressOther, CompletedOwn, CompletedOther];

/// Longer than the retention and the lease.
const LONG: Duration = Duration::from_secs(1000);

fn kept() -> Record {
    record(100)
}

/// A store in which [`key(0)`](key) is in the state of `column`, a second after it got there.
fn fixture(column: Column) -> Fixture {
    let mut fixture = Fixture::new();
    match column {
        Absent => {}
        ExpiredClaim | InProgressOwn => fixture.acquire(key(0), OURS),
        InProgressOther => fixture.acquire(key(0), THEIRS),
        ExpiredRecord | CompletedOwn => fixture.run(key(0), &kept()),
        CompletedOther => {
            fixture.acquire(key(0), THEIRS);
            assert_eq!(fixture.complete(key(0), THEIRS, &kept()), Ok(Ownership::Held));
        }
    }
    fixture.pass(if matches!(column, ExpiredClaim | ExpiredRecord) { RETENTION } else { Duration::from_secs(1) });
    fixture
}

/// Asserts that what is kept is in progress or completed by us, for `life` from now.
fn assert_ours(fixture: &Fixture, entry: &Entry, life: Duration, column: Column) {
    let snapshot = fixture.snapshot(key(0)).expect("something is kept");
    assert_eq!((&snapshot.entry, snapshot.token), (entry, OURS), "{column:?}");
    assert_eq!(snapshot.deadline, fixture.store.clock().time(fixture.now + life), "{column:?}");
}

fn in_progress(token: Token) -> Entry {
    Entry::InProgress { fingerprint: fingerprint(token) }
}

#[test]
fn claim_answers_as_in_the_table() {
    for column in COLUMNS {
        let fixture = fixture(column);
        let before = fixture.snapshot(key(0));
        let answer = fixture.claim(key(0), OURS).unwrap();
        match column {
            Absent | ExpiredClaim | ExpiredRecord => {
                assert_eq!(answer, Claim::Acquired, "{column:?}");
                assert_ours(&fixture, &in_progress(OURS), LEASE, column);
                continue;
            }
            InProgressOwn => assert_eq!(answer, Claim::Acquired),
            InProgressOther => assert_eq!(answer, Claim::InProgress { fingerprint: fingerprint(THEIRS) }),
            CompletedOwn | CompletedOther => assert_eq!(answer, Claim::Completed(kept()), "{column:?}"),
        }
        assert_eq!(fixture.snapshot(key(0)), before, "{column:?}");
    }
}

#[test]
fn renew_answers_as_in_the_table() {
    for column in COLUMNS {
        let fixture = fixture(column);
        let before = fixture.snapshot(key(0));
        let answer = fixture.store.renew(&key(0), OURS, LONG, fixture.now);
        match column {
            InProgressOwn => {
                assert_eq!(answer, Ownership::Held);
                assert_ours(&fixture, &in_progress(OURS), LONG, column);
            }
            Absent | ExpiredClaim | ExpiredRecord => {
                assert_eq!(answer, Ownership::Lost, "{column:?}");
                assert!(!fixture.holds(key(0)), "{column:?}");
            }
            InProgressOther | CompletedOwn | CompletedOther => {
                assert_eq!(answer, Ownership::Lost, "{column:?}");
                assert_eq!(fixture.snapshot(key(0)), before, "{column:?}");
            }
        }
    }
}

#[test]
fn complete_answers_as_in_the_table() {
    for column in COLUMNS {
        let fixture = fixture(column);
        let before = fixture.snapshot(key(0));
        let answer = fixture.store.complete(&key(0), OURS, &record(200), LONG, fixture.now).unwrap();
        match column {
            Absent | ExpiredClaim | ExpiredRecord | InProgressOwn => {
                assert_eq!(answer, Ownership::Held, "{column:?}");
                assert_ours(&fixture, &Entry::Completed(record(200)), LONG, column);
            }
            InProgressOther | CompletedOther => {
                assert_eq!(answer, Ownership::Lost, "{column:?}");
                assert_eq!(fixture.snapshot(key(0)), before, "{column:?}");
            }
            CompletedOwn => {
                assert_eq!(answer, Ownership::Held);
                assert_eq!(fixture.snapshot(key(0)), before);
            }
        }
        fixture.assert_consistent();
    }
}

#[test]
fn release_does_as_in_the_table() {
    for column in COLUMNS {
        let fixture = fixture(column);
        let before = fixture.snapshot(key(0));
        fixture.store.release(&key(0), OURS, fixture.now);
        match column {
            Absent | ExpiredClaim | ExpiredRecord | InProgressOwn => {
                assert!(!fixture.holds(key(0)), "{column:?}");
            }
            InProgressOther | CompletedOwn | CompletedOther => {
                assert_eq!(fixture.snapshot(key(0)), before, "{column:?}");
            }
        }
        fixture.assert_consistent();
    }
}

#[test]
fn get_sees_what_is_live_and_changes_nothing() {
    for column in COLUMNS {
        let fixture = fixture(column);
        let before = fixture.snapshot(key(0));
        let expected = match column {
            Absent | ExpiredClaim | ExpiredRecord => None,
            InProgressOwn => Some(in_progress(OURS)),
            InProgressOther => Some(in_progress(THEIRS)),
            CompletedOwn | CompletedOther => Some(Entry::Completed(kept())),
        };
        assert_eq!(fixture.store.get(&key(0), fixture.now), expected, "{column:?}");
        assert_eq!(fixture.snapshot(key(0)), before, "{column:?}");
    }
}

#[test]
fn remove_deletes_what_is_live_and_says_so() {
    for column in COLUMNS {
        let fixture = fixture(column);
        let live = !matches!(column, Absent | ExpiredClaim | ExpiredRecord);
        assert_eq!(fixture.store.remove(&key(0), fixture.now), live, "{column:?}");
        assert_eq!(fixture.len(), 0, "{column:?}");
        assert_eq!(fixture.bytes(), 0, "{column:?}");
        fixture.assert_consistent();
    }
}

#[test]
fn a_value_ends_at_its_deadline_and_not_before() {
    let mut fixture = Fixture::new();
    fixture.acquire(key(0), OURS);
    fixture.run(key(1), &kept());
    fixture.pass(LEASE - Duration::from_nanos(1));
    assert!(fixture.holds(key(0)));
    fixture.pass(Duration::from_nanos(1));
    assert!(!fixture.holds(key(0)));
    fixture.pass(RETENTION - LEASE - Duration::from_nanos(1));
    assert!(fixture.holds(key(1)));
    fixture.pass(Duration::from_nanos(1));
    assert!(!fixture.holds(key(1)));
}

#[test]
fn a_command_that_read_its_clock_before_another_one_does_not_run_before_it() {
    let mut fixture = Fixture::new();
    let early = fixture.now;
    fixture.acquire(key(0), OURS);
    fixture.pass(LEASE);
    assert!(!fixture.holds(key(0)));
    assert_eq!(fixture.store.renew(&key(0), OURS, LEASE, early), Ownership::Lost);
}

#[test]
fn the_longest_lease_and_retention_do_not_overflow() {
    let mut fixture = Fixture::new();
    let store = &fixture.store;
    assert_eq!(store.claim(&key(0), OURS, &fingerprint(OURS), Duration::MAX, fixture.now), Ok(Claim::Acquired));
    assert_eq!(store.renew(&key(0), OURS, Duration::MAX, fixture.now), Ownership::Held);
    assert_eq!(store.complete(&key(1), OURS, &kept(), Duration::MAX, fixture.now), Ok(Ownership::Held));
    fixture.pass(Duration::from_secs(100 * 365 * 24 * 3600));
    assert!(fixture.holds(key(0)) && fixture.holds(key(1)));
}

#[test]
fn a_store_is_used_on_after_a_panic_under_the_lock() {
    let fixture = Fixture::new();
    fixture.acquire(key(0), OURS);
    let panicked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| fixture.store.locked(&key(0), |_, _, _| panic!("on purpose")));
        thread.join().is_err()
    });
    assert!(panicked);
    assert_eq!(fixture.complete(key(0), OURS, &kept()), Ok(Ownership::Held));
    fixture.assert_consistent();
}
