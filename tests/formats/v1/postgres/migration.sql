SELECT pg_advisory_xact_lock(hashtext('tower_idempotency'));
-- The table of PostgresBackend, for PostgreSQL 9.5 and later. May be run any number of times.
CREATE TABLE IF NOT EXISTS "idempotency" (
    key bytea PRIMARY KEY CHECK (octet_length(key) = 32),
    -- Who claimed the key.
    token bytea NOT NULL CHECK (octet_length(token) = 16),
    -- What was claimed.
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 48),
    -- NULL: in progress.
    record bytea,
    -- From then on the row is as good as absent.
    expires_at timestamptz NOT NULL
);
-- For the clean-up. Where it exists it is not mentioned: CREATE INDEX waits for all who write into the table before it
-- looks, and all who write later wait behind it.
DO $$ BEGIN
    IF to_regclass('"idempotency_expires_at"') IS NULL THEN
        CREATE INDEX IF NOT EXISTS "idempotency_expires_at" ON "idempotency" (expires_at);
    END IF;
END $$;
