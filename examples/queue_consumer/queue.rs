//! A queue like most: it delivers a message until it is acknowledged, so at least once, and at most 20 times.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Result, Row};

const TABLE: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS queue (
        place INTEGER PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL,
        deliveries INTEGER NOT NULL DEFAULT 0, visible_at REAL NOT NULL DEFAULT 0)";
/// A message that was delivered is hidden for half a second; then its consumer is taken for dead.
const RECEIVE: &str = "UPDATE queue SET visible_at = unixepoch('subsec') + 0.5, deliveries = deliveries + 1
    WHERE place = (SELECT min(place) FROM queue WHERE visible_at <= unixepoch('subsec') AND deliveries < 20)
    RETURNING place, id, body";

pub(crate) struct Queue(Connection);

pub(crate) struct Delivery {
    place: i64,
    pub(crate) id: String,
    pub(crate) body: String,
}

impl Queue {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let connection = Connection::open(folder.join("queue_consumer.db"))?;
        connection.execute_batch(TABLE)?;
        Ok(Self(connection))
    }

    pub(crate) fn send(&self, id: &str, body: &str) -> Result<()> {
        self.0.execute("INSERT INTO queue (id, body) VALUES (?1, ?2)", [id, body]).map(drop)
    }

    /// The next message, if one is due.
    pub(crate) fn receive(&self) -> Result<Option<Delivery>> {
        let delivery = |row: &Row<'_>| Ok(Delivery { place: row.get(0)?, id: row.get(1)?, body: row.get(2)? });
        self.0.query_row(RECEIVE, [], delivery).optional()
    }

    /// Takes a message out for good.
    pub(crate) fn acknowledge(&self, delivery: &Delivery) -> Result<()> {
        self.0.execute("DELETE FROM queue WHERE place = ?1", [delivery.place]).map(drop)
    }

    pub(crate) fn is_empty(&self) -> Result<bool> {
        self.0.query_row("SELECT count(*) = 0 FROM queue WHERE deliveries < 20", [], |row| row.get(0))
    }
}
