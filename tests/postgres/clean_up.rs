//! Deleting what has expired.

use std::time::Duration;

use tower_idempotency::{
    Backend, Claim, Entry, Fingerprint, Key, PostgresBackend, Token,
    sqlx::{Connection, Executor, PgConnection, PgPool, query_scalar},
};

use crate::{
    behaviour::support::until_some,
    support::{LONG, SHARED, backend_at, fresh_name},
};

/// A backend over a table with so many expired and so many live records.
async fn filled(expired: u32, live: u32) -> (PostgresBackend, PgPool, String) {
    let (pool, table) = (SHARED.pool(5), fresh_name());
    let backend = backend_at(pool.clone(), &table).await;
    let fill = format!(
        "INSERT INTO {table} SELECT decode(lpad(to_hex(number), 64, '0'), 'hex'), '\\x{token}', '\\x{fingerprint}',
            NULL, now() + (number - {expired} - 0.5) * interval '1 minute'
        FROM generate_series(1, {expired} + {live}) AS number",
        token = "07".repeat(Token::LEN),
        fingerprint = "07".repeat(Fingerprint::LEN),
    );
    pool.execute(&*fill).await.unwrap();
    pool.execute(&*format!("ANALYZE {table}")).await.unwrap();
    (backend, pool, table)
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    query_scalar(&format!("SELECT count(*) FROM {table}")).fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_000_rows_a_batch_is_found_by_the_index() {
    let (backend, pool, table) = filled(200_000, 10_000).await;
    // What the backend sends, as the server remembers it.
    assert_eq!(backend.delete_expired(1000).await.unwrap(), 1000);
    let sent = format!("SELECT query FROM pg_stat_statements WHERE query LIKE 'DELETE FROM \"{table}\" %'");
    pool.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await.unwrap();
    let sent: String = query_scalar(&sent).fetch_one(&pool).await.unwrap();
    let explain = format!("EXPLAIN {}", sent.replace("$1", "1000"));
    let plan: Vec<String> = query_scalar(&explain).fetch_all(&pool).await.unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains(&format!("Index Scan using {table}_expires_at")), "{plan}");
    // By the time, not only in order: where little has expired the whole index would be read.
    assert!(plan.contains("Index Cond: (expires_at <= "), "{plan}");
    assert!(plan.contains("Tid Scan") && !plan.contains("Seq Scan"), "{plan}");

    // The oldest went first.
    let oldest = format!("SELECT count(*) FROM {table} WHERE expires_at < now() - 199000 * interval '1 minute'");
    let oldest: i64 = query_scalar(&oldest).fetch_one(&pool).await.unwrap();
    assert_eq!((oldest, count(&pool, &table).await), (0, 209_000));
    while backend.delete_expired(50_000).await.unwrap() == 50_000 {}
    assert_eq!(count(&pool, &table).await, 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cleaner_leaves_what_is_alive() {
    let (backend, pool, table) = filled(95, 5).await;
    let (key, token) = (Key::new("", "order-1"), Token::random());
    let fingerprint = Fingerprint::of("a request");
    assert_eq!(backend.claim(&key, token, &fingerprint, LONG).await.unwrap(), Claim::Acquired);
    let cleaned = backend.clone().clean_up_by(10, Duration::from_millis(10));
    until_some("the expired rows are gone", async || (count(&pool, &table).await == 6).then_some(())).await;
    assert_eq!(cleaned.get(&key).await.unwrap(), Some(Entry::InProgress { fingerprint }));
    assert_eq!(cleaned.delete_expired(1000).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_does_not_wait_for_a_row_that_somebody_changes() {
    let (backend, pool, table) = filled(10, 0).await;
    let mut other = PgConnection::connect_with(&SHARED.address()).await.unwrap();
    let mut change = other.begin().await.unwrap();
    let lock = format!("SELECT FROM {table} ORDER BY expires_at LIMIT 1 FOR UPDATE");
    change.execute(&*lock).await.unwrap();
    assert_eq!(backend.delete_expired(1000).await.unwrap(), 9);
    change.rollback().await.unwrap();
    assert_eq!(backend.delete_expired(1000).await.unwrap(), 1);
    assert_eq!(count(&pool, &table).await, 0);
}
