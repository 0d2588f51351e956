//! The pool that the backend shares with the application.

use std::time::Duration;

use tower_idempotency::{
    Backend, BackendErrorKind, Claim, Fingerprint, IdempotencyLayer, Key, Ownership, PostgresBackend, Rejection, Token,
    sqlx::{Connection, Executor, PgConnection, postgres::PgPoolOptions, query, query_scalar},
};

use crate::{
    behaviour::support::{Counting, Handler, until},
    support::{Application, Fate, LONG, Proxy, SHARED, backend_at, fresh_table},
};

async fn claim(backend: &PostgresBackend, text: &str) -> Result<Claim, BackendErrorKind> {
    let claim = backend.claim(&Key::new("", text), Token::random(), &Fingerprint::of(text), LONG).await;
    claim.map_err(|error| error.kind())
}

/// Handlers that hold connections while they run must not cost themselves their leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pool_that_is_exhausted_refuses_claims_and_serves_holders() {
    let (pool, handler) = (SHARED.pool(3), Handler::held_payments());
    let backend = backend_at(pool.clone(), &fresh_table()).await;
    let counting = Counting::new(tower_idempotency::BoxBackend::new(backend.clone()));
    let lease = Duration::from_millis(600);
    let node = Application::start(&handler, IdempotencyLayer::new(counting.clone()).lease(lease)).await;

    let first = node.begin("order-1");
    handler.entered(1).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(pool.acquire().await.unwrap());
    }
    assert_eq!(claim(&backend, "order-2").await, Err(BackendErrorKind::TimedOut));
    node.pay("order-2").await.assert_is(Rejection::BackendUnavailable);
    // Two leases.
    until("the lease is renewed", move || counting.renewals() >= 6).await;
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    drop(held);
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

/// Longer than the layer is patient with a command: half of its time-out of a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_take_long_to_make_are_made_in_the_end() {
    let (proxy, table) =
        (Proxy::connecting_in(Duration::from_millis(800), &SHARED, |_| Fate::Pass).await, fresh_table());
    backend_at(SHARED.pool(1), &table).await;
    let backend = PostgresBackend::new(proxy.pool(3)).table(&table);
    let handler = Handler::payments();
    let node = Application::start(&handler, IdempotencyLayer::new(backend).lease(LONG)).await;
    node.pay_in_the_end("order-1").await;
    node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test]
async fn a_pool_that_is_closed_refuses() {
    let pool = SHARED.pool(3);
    let backend = backend_at(pool.clone(), &fresh_table()).await;
    backend.ping().await.unwrap();
    pool.close().await;
    assert_eq!(claim(&backend, "order-1").await, Err(BackendErrorKind::Unavailable));
    assert_eq!(backend.ping().await.unwrap_err().kind(), BackendErrorKind::Unavailable);
}

/// Where passwords are rotated, the application tells its pool. Those who hold a claim have a pool that it cannot tell.
#[tokio::test]
async fn holders_connect_as_their_application_does_by_now() {
    let admin = SHARED.pool(1);
    for role in ["former", "present"] {
        admin.execute(&*format!("CREATE ROLE {role} SUPERUSER LOGIN")).await.unwrap();
    }
    let pool = PgPoolOptions::new().connect_lazy_with(SHARED.address().username("former"));
    let backend = backend_at(pool.clone(), &fresh_table()).await;
    let (key, token, of) = (Key::new("", "order-1"), Token::random(), Fingerprint::of("order-1"));
    assert_eq!(backend.claim(&key, token, &of, LONG).await.unwrap(), Claim::Acquired);
    admin.execute("ALTER ROLE former NOLOGIN").await.unwrap();
    assert_eq!(backend.renew(&key, token, LONG).await.unwrap_err().kind(), BackendErrorKind::Unavailable);
    pool.set_connect_options(SHARED.address().username("present"));
    assert_eq!(backend.renew(&key, token, LONG).await.unwrap(), Ownership::Held);
}

/// The server goes on with what was dropped. Nobody waits for it, so the next command has a connection.
#[tokio::test]
async fn a_command_that_takes_too_long_costs_the_pool_no_connection() {
    let table = fresh_table();
    let backend = backend_at(SHARED.pool(1), &table).await.timeout(Duration::from_millis(200));
    let mut other = PgConnection::connect_with(&SHARED.address()).await.unwrap();
    let mut pause = other.begin().await.unwrap();
    pause.execute(&*format!("LOCK TABLE {table}")).await.unwrap();
    assert_eq!(claim(&backend, "order-1").await, Err(BackendErrorKind::TimedOut));
    backend.ping().await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_missing_is_said_to_be() {
    let backend = PostgresBackend::new(SHARED.pool(3)).table(&fresh_table());
    let error = backend.get(&Key::new("", "order-1")).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("does not exist"), "{cause}");
}

#[tokio::test]
async fn tables_share_nothing_and_a_schema_may_be_named() {
    let pool = SHARED.pool(3);
    query("CREATE SCHEMA \"Billing\"").execute(&pool).await.unwrap();
    let (one, other) = (backend_at(pool.clone(), "Billing.Keys").await, backend_at(pool, &fresh_table()).await);
    for backend in [&one, &other] {
        // Again, as every process does when it starts.
        backend.migrate().await.unwrap();
        assert_eq!(claim(backend, "order-1").await, Ok(Claim::Acquired));
    }
    assert!(matches!(claim(&one, "order-1").await, Ok(Claim::InProgress { .. })));
}

/// Services that have a schema each, in front of one that they share.
#[tokio::test]
async fn a_table_gets_its_index_where_another_schema_has_one_of_its_name() {
    let (pool, table) = (SHARED.pool(1), fresh_table());
    backend_at(pool.clone(), &table).await;
    pool.execute("CREATE SCHEMA own").await.unwrap();
    let own = PgPoolOptions::new().connect_lazy_with(SHARED.address().options([("search_path", "own,public")]));
    for _ in 0..2 {
        backend_at(own.clone(), &table).await;
        let indexed = query_scalar("SELECT schemaname::text FROM pg_indexes WHERE indexname = $1 ORDER BY 1");
        let indexed: Vec<String> = indexed.bind(format!("{table}_expires_at")).fetch_all(&pool).await.unwrap();
        assert_eq!(indexed, ["own", "public"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_may_migrate_at_the_same_time() {
    let table = fresh_table();
    let migrations: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn({
                let backend = PostgresBackend::new(SHARED.pool(1)).table(&table);
                async move { backend.migrate().await }
            })
        })
        .collect();
    for migration in migrations {
        migration.await.unwrap().unwrap();
    }
}

/// A transaction may be stuck in a handler, or forgotten by a network, while another process starts. Where that waited for
/// a lock, all who claim would wait behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_starts_waits_for_nobody_who_writes() {
    let (pool, table) = (SHARED.pool(5), fresh_table());
    let backend = backend_at(pool.clone(), &table).await;
    assert_eq!(claim(&backend, "order-1").await, Ok(Claim::Acquired));
    let mut stuck = pool.begin().await.unwrap();
    stuck.execute(&*format!("UPDATE {table} SET record = NULL")).await.unwrap();

    let start = async { backend.migrate().await.unwrap() };
    tokio::time::timeout(Duration::from_secs(20), start).await.expect("the migration waits for the transaction");
    assert_eq!(claim(&backend, "order-2").await, Ok(Claim::Acquired));
    stuck.rollback().await.unwrap();
}
