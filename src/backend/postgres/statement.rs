//! The SQL: one statement per command.
//!
//! What has expired is as good as absent in each of them. The time is that of the server, read when a row is looked at:
//! `now()` would be that of the transaction's begin.

use super::table::Table;

/// The channel on which processes tell each other that a key is no longer in progress.
pub(super) const CHANNEL: &str = "tower_idempotency";

const MIGRATION: &str = include_str!("migration.sql");

/// The statements over one table.
#[derive(Debug)]
pub(super) struct Statements {
    /// The table's name, quoted.
    pub(super) table: String,
    pub(super) claim: String,
    pub(super) renew: String,
    pub(super) complete: String,
    pub(super) commit: String,
    pub(super) verify: String,
    pub(super) release: String,
    pub(super) get: String,
    pub(super) remove: String,
    pub(super) delete_expired: String,
    pub(super) migrate: String,
}

impl Statements {
    pub(super) fn new(table: &Table) -> Self {
        let name = table.name();
        Self {
            table: name.to_owned(),
            claim: claim(name),
            renew: format!(
                "UPDATE {name} SET expires_at = clock_timestamp() + $3
                WHERE key = $1 AND token = $2 AND record IS NULL AND expires_at > clock_timestamp()
                RETURNING true"
            ),
            complete: complete(name),
            commit: telling(&format!(
                "UPDATE {name} SET record = $4, expires_at = clock_timestamp() + $5
                WHERE key = $1 AND token = $3 AND record IS NULL"
            )),
            // Only the key is searched for: what else a row says may change while its lock is waited for. NULL: the row is
            // another run's by now.
            verify: format!(
                "SELECT CASE WHEN token = $2 THEN record IS NOT NULL END AS committed
                FROM {name} WHERE key = $1 FOR UPDATE"
            ),
            release: telling(&format!("DELETE FROM {name} WHERE key = $1 AND token = $3 AND record IS NULL")),
            get: format!(
                "SELECT token, fingerprint, record FROM {name} WHERE key = $1 AND expires_at > clock_timestamp()"
            ),
            remove: telling(&format!("DELETE FROM {name} WHERE key = $1 AND expires_at > clock_timestamp()")),
            delete_expired: delete_expired(name),
            migrate: migrate(table),
        }
    }
}

/// Writes a claim where nothing is that lives, and returns what lives there now.
///
/// A live row is only read: `ON CONFLICT DO UPDATE` alone would lock it, which makes the server write and flush its log
/// once per duplicate. The price is that no row comes back when another claim was written after this one had looked.
/// Then it has to be sent again.
fn claim(table: &str) -> String {
    format!(
        "WITH live AS (
            SELECT token, fingerprint, record FROM {table} WHERE key = $1 AND expires_at > clock_timestamp()
        ), written AS (
            INSERT INTO {table} AS held (key, token, fingerprint, expires_at)
            SELECT $1, $2, $3, clock_timestamp() + $4 WHERE NOT EXISTS (SELECT FROM live)
            ON CONFLICT (key) DO UPDATE SET
                token = EXCLUDED.token, fingerprint = EXCLUDED.fingerprint, record = NULL,
                expires_at = EXCLUDED.expires_at
            WHERE held.expires_at <= clock_timestamp()
            RETURNING token, fingerprint, record
        )
        SELECT token, fingerprint, record FROM live UNION ALL SELECT token, fingerprint, record FROM written"
    )
}

/// Stores a record, unless another token is in its place. One that the same token has stored stays as it is.
fn complete(table: &str) -> String {
    let kept = "held.record IS NOT NULL AND held.expires_at > clock_timestamp()";
    telling(&format!(
        "INSERT INTO {table} AS held (key, token, fingerprint, record, expires_at)
        VALUES ($1, $3, $4, $5, clock_timestamp() + $6)
        ON CONFLICT (key) DO UPDATE SET
            token = EXCLUDED.token, fingerprint = EXCLUDED.fingerprint,
            record = CASE WHEN {kept} THEN held.record ELSE EXCLUDED.record END,
            expires_at = CASE WHEN {kept} THEN held.expires_at ELSE EXCLUDED.expires_at END
        WHERE held.token = EXCLUDED.token OR held.expires_at <= clock_timestamp()"
    ))
}

/// Does what `change` says and returns a row if it changed one. Then those who wait for the key are told.
///
/// Only if there are any in another process: each transaction that notifies holds one lock of the whole server while it
/// is committed. Whoever waits for a key holds its advisory lock, shared.
fn telling(change: &str) -> String {
    format!(
        "WITH changed AS ({change} RETURNING key)
        SELECT CASE WHEN pg_try_advisory_xact_lock($2) THEN NULL
            ELSE pg_notify('{CHANNEL}', encode(key, 'hex')) END
        FROM changed"
    )
}

/// Deletes what has expired, the oldest first, but for rows that somebody else is changing.
///
/// The time is a subquery, read once, since the index cannot be searched for a value that changes from row to row.
fn delete_expired(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY (
            SELECT ctid FROM {table} WHERE expires_at <= (SELECT clock_timestamp())
            ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
        )) AND expires_at <= clock_timestamp()"
    )
}

/// The migration, under a lock: of two that create a table at the same time one would fail.
fn migrate(table: &Table) -> String {
    let create = MIGRATION
        .replace("'idempotency'", &format!("'{}'", table.name()))
        .replace("'idempotency_expires_at'", &format!("'{}'", table.index_path()))
        .replace("EXISTS idempotency_expires_at", &format!("EXISTS {}", table.index()))
        .replace("idempotency (", &format!("{} (", table.name()));
    format!("SELECT pg_advisory_xact_lock(hashtext('{CHANNEL}'));\n{create}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migration_creates_the_table_of_that_name() {
        let statements = Statements::new(&Table::new("billing.keys"));
        let lines: Vec<_> = statements.migrate.lines().map(str::trim).collect();
        assert!(lines.contains(&"CREATE TABLE IF NOT EXISTS \"billing\".\"keys\" ("), "{lines:#?}");
        let index = "CREATE INDEX IF NOT EXISTS \"keys_expires_at\" ON \"billing\".\"keys\" (expires_at);";
        assert!(lines.contains(&index), "{lines:#?}");
        assert!(statements.migrate.contains("to_regclass('\"billing\".\"keys_expires_at\"')"), "{lines:#?}");
        assert!(statements.migrate.contains("to_regclass('\"billing\".\"keys\"')"), "{lines:#?}");
        let text = statements.migrate.replace(CHANNEL, "");
        assert!(!text.contains("idempotency"), "{text}");
    }

    /// The names that are replaced are in those that replace them.
    #[test]
    fn the_migration_of_the_default_table_is_the_file_with_its_names_quoted() {
        let migrate = Statements::new(&Table::new("idempotency")).migrate;
        let (_lock, create) = migrate.split_once('\n').unwrap();
        let quoted = MIGRATION.replace("idempotency_expires_at", "\"idempotency_expires_at\"");
        let quoted = quoted.replace("'idempotency'", "'\"idempotency\"'");
        assert_eq!(create, quoted.replace("idempotency (", "\"idempotency\" ("));
    }
}
