//! What the server may answer instead of doing what it is told. A trigger makes it do so.

use std::time::Duration;

use tower_idempotency::{
    Backend, BackendErrorKind, Claim, Fingerprint, Key, Ownership, PostgresBackend, Record, Token,
    sqlx::{PgPool, query_scalar, raw_sql},
};

use crate::support::{LONG, SHARED, backend_at, fresh_name};

/// A backend whose first `times` writes fail with the error `code`.
async fn failing(times: u32, code: &str) -> (PostgresBackend, PgPool, String) {
    let (pool, table) = (SHARED.pool(3), fresh_name());
    let backend = backend_at(pool.clone(), &table).await.timeout(Duration::from_secs(20));
    // A sequence counts what was rolled back as well.
    let trigger = format!(
        "CREATE SEQUENCE {table}_tries;
        CREATE FUNCTION {table}_fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('{table}_tries') <= {times} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE PROCEDURE {table}_fail()"
    );
    raw_sql(&trigger).execute(&pool).await.unwrap();
    (backend, pool, table)
}

fn key() -> Key {
    Key::new("", "order-1")
}

async fn claim(backend: &PostgresBackend, token: Token) -> Result<Claim, BackendErrorKind> {
    backend.claim(&key(), token, &Fingerprint::of("a request"), LONG).await.map_err(|error| error.kind())
}

async fn complete(backend: &PostgresBackend, token: Token) -> Result<Ownership, BackendErrorKind> {
    let record = Record::value(&Fingerprint::of("a request"), b"done");
    backend.complete(&key(), token, &record, LONG).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn what_is_given_up_for_another_is_sent_again() {
    for code in ["40001", "40P01"] {
        let (backend, ..) = failing(3, code).await;
        let token = Token::random();
        assert_eq!(claim(&backend, token).await, Ok(Claim::Acquired), "{code}");
        assert_eq!(complete(&backend, token).await, Ok(Ownership::Held), "{code}");
    }
}

#[tokio::test]
async fn what_is_always_given_up_is_not_sent_forever() {
    let (backend, pool, table) = failing(1_000_000, "40P01").await;
    assert_eq!(claim(&backend, Token::random()).await, Err(BackendErrorKind::Unavailable));
    let tries: i64 = query_scalar(&format!("SELECT last_value FROM {table}_tries")).fetch_one(&pool).await.unwrap();
    assert_eq!(tries, 20);
}

/// A claim has changed nothing then. A record may find room before its lease ends.
#[tokio::test]
async fn a_full_disk_is_said_to_be_full_to_claims_alone() {
    let (backend, ..) = failing(1, "53100").await;
    assert_eq!(claim(&backend, Token::random()).await, Err(BackendErrorKind::Full));
    let (backend, ..) = failing(1, "53100").await;
    assert_eq!(complete(&backend, Token::random()).await, Err(BackendErrorKind::Unavailable));
}

#[tokio::test]
async fn a_statement_that_the_server_cancels_has_timed_out() {
    let (backend, ..) = failing(1, "57014").await;
    assert_eq!(claim(&backend, Token::random()).await, Err(BackendErrorKind::TimedOut));
    assert_eq!(claim(&backend, Token::random()).await, Ok(Claim::Acquired));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_refused_and_left_as_it_is() {
    let (pool, table) = (SHARED.pool(3), fresh_name());
    let backend = backend_at(pool.clone(), &table).await;
    let token = Token::random();
    assert_eq!(complete(&backend, token).await, Ok(Ownership::Held));
    let foreign = b"\xffof a newer version".to_vec();
    let overwrite = format!("UPDATE {table} SET record = $1");
    tower_idempotency::sqlx::query(&overwrite).bind(&foreign).execute(&pool).await.unwrap();

    for token in [token, Token::random()] {
        assert_eq!(claim(&backend, token).await, Err(BackendErrorKind::Corrupt));
    }
    assert_eq!(backend.get(&key()).await.unwrap_err().kind(), BackendErrorKind::Corrupt);
    assert_eq!(complete(&backend, Token::random()).await, Ok(Ownership::Lost));
    assert_eq!(complete(&backend, token).await, Ok(Ownership::Held));
    let stored: Vec<u8> = query_scalar(&format!("SELECT record FROM {table}")).fetch_one(&pool).await.unwrap();
    assert_eq!(stored, foreign);
}
