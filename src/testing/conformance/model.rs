//! The command table as a function: what each command answers and leaves behind, while nothing expires.

use std::fmt;

/// One of the few parties of a check, by number.
pub(super) type Party = u8;

/// One of the records that a party may complete with, by number.
pub(super) type Version = u8;

/// What is stored under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Absent,
    Claimed(Party),
    Completed(Party, Version),
}

/// A command, with the party that sends it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Claim(Party),
    Renew(Party),
    Complete(Party, Version),
    Release(Party),
    Get,
    Remove,
}

/// What a command answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Acquired,
    InProgress(Party),
    Completed(Party, Version),
    Held,
    Lost,
    Released,
    Nothing,
    Removed(bool),
}

/// How reports name a party.
pub(super) fn name(party: Party) -> String {
    ('A'..='Z').nth(usize::from(party)).map_or_else(|| format!("P{party}"), String::from)
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Claim(me) => write!(f, "claim by {}", name(me)),
            Self::Renew(me) => write!(f, "renew by {}", name(me)),
            Self::Complete(me, version) => write!(f, "complete by {} with record {version}", name(me)),
            Self::Release(me) => write!(f, "release by {}", name(me)),
            Self::Get => f.write_str("get"),
            Self::Remove => f.write_str("remove"),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Acquired => f.write_str("Acquired"),
            Self::InProgress(holder) => write!(f, "InProgress, claimed by {}", name(holder)),
            Self::Completed(holder, version) => write!(f, "Completed, with record {version} of {}", name(holder)),
            Self::Held => f.write_str("Held"),
            Self::Lost => f.write_str("Lost"),
            Self::Released => f.write_str("released"),
            Self::Nothing => f.write_str("nothing is stored"),
            Self::Removed(something) => write!(f, "{something}"),
        }
    }
}

/// The command table of [`Backend`](crate::Backend), cell by cell.
pub(super) fn apply(value: Value, step: Step) -> (Seen, Value) {
    use Value::{Absent, Claimed, Completed};
    match (step, value) {
        (Step::Claim(me), Absent) => (Seen::Acquired, Claimed(me)),
        (Step::Claim(me), Claimed(holder)) if me == holder => (Seen::Acquired, value),
        (Step::Claim(_) | Step::Get, Claimed(holder)) => (Seen::InProgress(holder), value),
        (Step::Claim(_) | Step::Get, Completed(holder, version)) => (Seen::Completed(holder, version), value),

        (Step::Renew(me), Claimed(holder)) if me == holder => (Seen::Held, value),
        (Step::Complete(me, version), Absent) => (Seen::Held, Completed(me, version)),
        (Step::Complete(me, version), Claimed(holder)) if me == holder => (Seen::Held, Completed(me, version)),
        (Step::Complete(me, _), Completed(holder, _)) if me == holder => (Seen::Held, value),
        (Step::Renew(_) | Step::Complete(..), _) => (Seen::Lost, value),

        (Step::Release(me), Claimed(holder)) if me == holder => (Seen::Released, Absent),
        (Step::Release(_), _) => (Seen::Released, value),

        (Step::Get, Absent) => (Seen::Nothing, Absent),
        (Step::Remove, value) => (Seen::Removed(value != Absent), Absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written out from the table in the documentation of `Backend`, whose columns are the values below.
    #[test]
    fn the_model_says_what_the_table_says() {
        const OWN: Party = 0;
        const OTHER: Party = 1;
        let absent = Value::Absent;
        let own = Value::Claimed(OWN);
        let other = Value::Claimed(OTHER);
        let own_record = Value::Completed(OWN, 0);
        let other_record = Value::Completed(OTHER, 0);
        let stored = Value::Completed(OWN, 1);
        let columns = [absent, own, other, own_record, other_record];
        let table = [
            (
                Step::Claim(OWN),
                [
                    (Seen::Acquired, own),
                    (Seen::Acquired, own),
                    (Seen::InProgress(OTHER), other),
                    (Seen::Completed(OWN, 0), own_record),
                    (Seen::Completed(OTHER, 0), other_record),
                ],
            ),
            (
                Step::Renew(OWN),
                [
                    (Seen::Lost, absent),
                    (Seen::Held, own),
                    (Seen::Lost, other),
                    (Seen::Lost, own_record),
                    (Seen::Lost, other_record),
                ],
            ),
            (
                Step::Complete(OWN, 1),
                [
                    (Seen::Held, stored),
                    (Seen::Held, stored),
                    (Seen::Lost, other),
                    (Seen::Held, own_record),
                    (Seen::Lost, other_record),
                ],
            ),
            (
                Step::Release(OWN),
                [
                    (Seen::Released, absent),
                    (Seen::Released, absent),
                    (Seen::Released, other),
                    (Seen::Released, own_record),
                    (Seen::Released, other_record),
                ],
            ),
        ];
        for (step, row) in table {
            for (value, expected) in columns.into_iter().zip(row) {
                assert_eq!(apply(value, step), expected, "{step:?} on {value:?}");
            }
        }
    }
}
