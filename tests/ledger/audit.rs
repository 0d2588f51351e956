//! What is true in the end: what the ledger says, what is recorded, and what clients were told.

use std::collections::{HashMap, HashSet};

use tower_idempotency::{
    Key,
    sqlx::{self, PgPool},
};

/// What must never be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The ledger has the payment more than once.
    BookedTwice(usize),
    /// In the ledger, while duplicates would run.
    BookedWithoutRecord(usize),
    /// Not in the ledger, while duplicates are told that it is.
    RecordedWithoutBooking(usize),
    /// A client was told that it is in the ledger.
    AnsweredWithoutBooking(usize),
    /// The answer is not that of the booking.
    AnsweredAnother(usize, String),
    /// Two clients, or one twice, got different answers.
    Changed(usize, String, String),
    /// Refused for good.
    Refused(usize, String),
    /// No client gets a final answer any more.
    Stuck(usize),
}

/// What the database holds, in one snapshot.
pub(crate) struct Books {
    /// The keys that have a record.
    recorded: HashSet<Vec<u8>>,
    /// The id and the amount of each row of the ledger.
    rows: Vec<(i64, i64)>,
}

impl Books {
    /// `None`: the server does not answer.
    pub(crate) async fn read(pool: &PgPool) -> Option<Self> {
        let snapshot = "SELECT
            (SELECT coalesce(array_agg(key), '{}') FROM idempotency WHERE record IS NOT NULL),
            (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM ledger),
            (SELECT coalesce(array_agg(amount ORDER BY id), '{}') FROM ledger)";
        let books: (Vec<_>, Vec<_>, Vec<_>) = sqlx::query_as(snapshot).fetch_one(pool).await.ok()?;
        let (recorded, ids, amounts) = books;
        Some(Self { recorded: recorded.into_iter().collect(), rows: ids.into_iter().zip(amounts).collect() })
    }

    /// What is wrong with the payments of these `keys`, of which `answers` were given before this was read. Each has an
    /// amount of its own, its number.
    pub(crate) fn audit(&self, keys: &[Key], answers: &HashMap<usize, String>) -> Vec<Violation> {
        let mut booked: HashMap<usize, Vec<i64>> = HashMap::new();
        for &(id, amount) in &self.rows {
            booked.entry(usize::try_from(amount).unwrap()).or_default().push(id);
        }
        let judge = |(number, key): (usize, &Key)| {
            let rows = booked.get(&number).map_or(&[][..], Vec::as_slice);
            match (rows, self.recorded.contains(&key.as_bytes()[..]), answers.get(&number)) {
                ([_, _, ..], _, _) => Some(Violation::BookedTwice(number)),
                ([], true, _) => Some(Violation::RecordedWithoutBooking(number)),
                ([_], false, _) => Some(Violation::BookedWithoutRecord(number)),
                ([], false, Some(_)) => Some(Violation::AnsweredWithoutBooking(number)),
                ([id], true, Some(answer)) if !is_of(answer, *id, number) => {
                    Some(Violation::AnsweredAnother(number, answer.clone()))
                }
                _ => None,
            }
        };
        (1..).zip(keys).filter_map(judge).collect()
    }

    /// How many payments the ledger has.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

fn is_of(answer: &str, id: i64, amount: usize) -> bool {
    answer.ends_with(&format!(r#"{{"id":{id},"amount":{amount},"currency":"eur"}}"#))
}
