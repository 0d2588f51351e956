//! What earlier versions have left in PostgreSQL is read as it was meant, and today's code writes the same.

use tower_idempotency::{
    Backend, BackendFailure, Claim, Fingerprint, IdempotencyLayer, Key, Ownership, PostgresBackend, Record, Rejection,
    Token,
    sqlx::{Executor, PgPool, query, query_as, query_scalar, raw_sql},
};

use crate::{
    behaviour::support::{Answer, Client, Handler, serve},
    fixtures::{FINGERPRINT, Fixture, NEXT, TOKEN, VERSIONS, Version},
    servers::order,
    support::{LONG, SHARED, fresh_name},
};

/// A node of today over the table that a version has left, in a schema of its own.
struct Heir {
    table: String,
    pool: PgPool,
    backend: PostgresBackend,
    handler: Handler,
    client: Client,
}

impl Heir {
    async fn of(version: &Version) -> Self {
        let (schema, pool) = (fresh_name(), SHARED.pool(10));
        let mut connection = pool.acquire().await.unwrap();
        let sql = format!(
            "CREATE SCHEMA {schema}; SET search_path TO {schema}; {} {} RESET search_path",
            version.migration, version.rows
        );
        connection.execute(raw_sql(&sql)).await.unwrap();
        drop(connection);
        let table = format!("{schema}.idempotency");
        let backend = PostgresBackend::new(pool.clone()).table(&table);
        backend.migrate().await.expect("what has been migrated may be migrated again");
        let handler = Handler::payments();
        // Even where it would rather run twice than not at all: somebody has the key.
        let layer = IdempotencyLayer::new(backend.clone()).on_backend_failure(BackendFailure::RunUnprotected);
        let client = Client::http2(serve(handler.router().layer(layer)).await).await;
        Self { table, pool, backend, handler, client }
    }

    async fn pay(&self, text: &str) -> Answer {
        self.client.ask(order(text)).await
    }

    async fn execute(&self, sql: &str, key: &str) {
        let sql = sql.replace("TABLE", &self.table);
        query(&sql).bind(&Key::new("", key).as_bytes()[..]).execute(&self.pool).await.unwrap();
    }

    /// Token, fingerprint and record.
    async fn found(&self, key: &str) -> (Vec<u8>, Vec<u8>, Option<Vec<u8>>) {
        let sql = format!("SELECT token, fingerprint, record FROM {} WHERE key = $1", self.table);
        query_as(&sql).bind(&Key::new("", key).as_bytes()[..]).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_of_every_version_are_replayed_and_left_as_they_are() {
    for version in &VERSIONS {
        let heir = Heir::of(version).await;
        for Fixture { kind, record, .. } in &version.fixtures {
            let answer = heir.pay(kind.name()).await;
            match kind.recorded() {
                Some(recorded) => {
                    recorded.assert_is(answer.status, &answer.headers, &answer.body, answer.trailers.as_ref());
                }
                None => answer.assert_is(kind.rejection()),
            }
            let found = heir.found(kind.name()).await;
            assert_eq!(found, (TOKEN.to_vec(), FINGERPRINT.to_vec(), Some(record.to_vec())), "{kind:?}");
        }
        assert_eq!(heir.handler.runs(), 0);
        let rows: i64 =
            query_scalar(&format!("SELECT count(*) FROM {}", heir.table)).fetch_one(&heir.pool).await.unwrap();
        assert_eq!(rows, 1 + 5, "a claim, and the records that were looked at");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_every_version_are_respected_until_they_expire() {
    for version in &VERSIONS {
        let heir = Heir::of(version).await;
        heir.pay("claim").await.assert_is(Rejection::InProgress);
        assert_eq!(heir.handler.runs(), 0);
        assert_eq!(heir.found("claim").await, (TOKEN.to_vec(), FINGERPRINT.to_vec(), None));

        heir.execute("UPDATE TABLE SET expires_at = clock_timestamp() - interval '1 ms' WHERE key = $1", "claim").await;
        heir.pay("claim").await.assert_is_first_of(1);
        heir.pay("claim").await.assert_is_replay_of(1);
    }
}

/// The holder of a claim that an earlier version made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_every_version_can_be_renewed_and_completed_by_their_token() {
    let (key, token) = (Key::new("", "claim"), Token::from_bytes(TOKEN));
    for version in &VERSIONS {
        let heir = Heir::of(version).await;
        let record = Record::from_bytes(version.fixtures[0].record.into()).unwrap();
        assert_eq!(heir.backend.renew(&key, Token::random(), LONG).await.unwrap(), Ownership::Lost);
        assert_eq!(heir.backend.renew(&key, token, LONG).await.unwrap(), Ownership::Held);
        assert_eq!(heir.backend.complete(&key, Token::random(), &record, LONG).await.unwrap(), Ownership::Lost);
        assert_eq!(heir.backend.complete(&key, token, &record, LONG).await.unwrap(), Ownership::Held);
        assert_eq!(heir.found("claim").await.2.as_deref(), Some(version.fixtures[0].record));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_today_is_the_written_version_byte_for_byte() {
    let (token, of) = (Token::from_bytes(TOKEN), Fingerprint::from_bytes(FINGERPRINT));
    for version in VERSIONS.iter().filter(|version| version.is_written) {
        let heir = Heir::of(version).await;
        for Fixture { kind, record, .. } in &version.fixtures {
            let text = format!("new-{}", kind.name());
            let key = Key::new("", &text);
            assert!(matches!(heir.backend.claim(&key, token, &of, LONG).await.unwrap(), Claim::Acquired));
            assert_eq!(heir.found(&text).await, heir.found("claim").await);
            let written = Record::from_bytes(record.to_vec().into()).unwrap();
            assert_eq!(heir.backend.complete(&key, token, &written, LONG).await.unwrap(), Ownership::Held);
            assert_eq!(heir.found(&text).await, heir.found(kind.name()).await, "{kind:?}");
        }
    }
}

/// The columns and the indexes of the table in `schema`.
async fn shape_of(schema: &str) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', column_name, data_type, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'idempotency'
        UNION ALL SELECT replace(indexdef, $1, '') FROM pg_indexes WHERE schemaname = $1 ORDER BY 1";
    query_scalar(sql).bind(schema).fetch_all(&SHARED.pool(1)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_table_that_is_made_today_is_that_of_the_written_version() {
    for version in VERSIONS.iter().filter(|version| version.is_written) {
        let (then, today) = (fresh_name(), fresh_name());
        let mut connection = SHARED.pool(1).acquire().await.unwrap();
        let sql =
            format!("CREATE SCHEMA {today}; CREATE SCHEMA {then}; SET search_path TO {then}; {}", version.migration);
        connection.execute(raw_sql(&sql)).await.unwrap();
        PostgresBackend::new(SHARED.pool(1)).table(&format!("{today}.idempotency")).migrate().await.unwrap();
        let shape = shape_of(&then).await;
        assert!(shape.len() > 2, "{shape:?}");
        assert_eq!(shape_of(&today).await, shape);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_newer_version_has_written_is_refused_and_left_alone() {
    let newest = &VERSIONS[VERSIONS.len() - 1];
    let heir = Heir::of(newest).await;
    for Fixture { kind, .. } in &newest.fixtures {
        heir.execute(&format!("UPDATE TABLE SET record = set_byte(record, 0, {NEXT}) WHERE key = $1"), kind.name())
            .await;
        let before = heir.found(kind.name()).await;
        assert_eq!(before.2.as_ref().unwrap()[0], NEXT);
        heir.pay(kind.name()).await.assert_is(Rejection::BackendUnavailable);
        assert_eq!(heir.found(kind.name()).await, before);
    }
    assert_eq!(heir.handler.runs(), 0);
}
