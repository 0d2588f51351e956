//! The bank: what cannot be taken back. A table of charges in a file that outlives every node.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};
use tokio::task::spawn_blocking;

use crate::Result;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS charges (id TEXT PRIMARY KEY, amount INTEGER NOT NULL,
    guarded INTEGER NOT NULL)";
const CHARGE: &str = "INSERT INTO charges VALUES (coalesce(?1, hex(randomblob(16))), ?2, ?3) ON CONFLICT DO NOTHING
    RETURNING id";

#[derive(Clone)]
pub(crate) struct Bank {
    file: PathBuf,
}

impl Bank {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let bank = Self { file: folder.join("bank.db") };
        bank.connect()?.execute_batch(TABLE)?;
        Ok(bank)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.file)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }

    /// Whether it was charged: not, where the bank has a charge with this id. Without one each is another.
    pub(crate) async fn charge(&self, id: Option<String>, amount: u32, guarded: bool) -> Result<bool> {
        let bank = self.clone();
        let charge = move || bank.connect()?.query_row(CHARGE, (id, amount, guarded), |_| Ok(())).optional();
        Ok(spawn_blocking(charge).await??.is_some())
    }

    /// How many, of payments behind the layer or of the others.
    pub(crate) fn charges(&self, guarded: bool) -> rusqlite::Result<u32> {
        self.connect()?.query_row("SELECT count(*) FROM charges WHERE guarded = ?1", [guarded], |row| row.get(0))
    }

    pub(crate) fn forget(&self) -> rusqlite::Result<usize> {
        self.connect()?.execute("DELETE FROM charges", [])
    }
}
