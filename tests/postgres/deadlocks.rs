//! Transactions that truly wait for each other: the server ends one of them, and that is ours.

use std::{future::Future, time::Duration};

use tokio::join;
use tower_idempotency::{
    Backend, Claim, Entry, Fingerprint, Key, Ownership, PostgresBackend, Record, Token,
    sqlx::{Connection, Executor, PgConnection, query_scalar, raw_sql},
};

use crate::{
    behaviour::support::until_some,
    support::{LONG, Server, backend_at},
};

/// An application that counts all changes, twice.
const TALLIES: &str = "CREATE TABLE tallies (number int PRIMARY KEY, changes int NOT NULL);
    INSERT INTO tallies VALUES (1, 0), (2, 0);
    CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE tallies SET changes = changes + 1 WHERE number = 1;
        UPDATE tallies SET changes = changes + 1 WHERE number = 2;
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON deadlocks
        FOR EACH ROW EXECUTE PROCEDURE count_change()";

async fn start() -> (Server, PostgresBackend) {
    let server = Server::start(&["deadlock_timeout = 10ms"]);
    let backend = backend_at(server.pool(5), "deadlocks").await.timeout(Duration::from_secs(20));
    (server, backend)
}

/// Runs `command`, which changes a row, so that it deadlocks with an operator who changes all rows by `change`. Returns
/// its answer.
async fn crossed<T>(server: &Server, command: impl Future<Output = T>, change: &str) -> T {
    let connect = async || PgConnection::connect_with(&server.address()).await.unwrap();
    let (mut holder, mut operator) = (connect().await, connect().await);
    raw_sql(TALLIES).execute(&mut holder).await.unwrap();
    let (mut holder, mut operator) = (holder.begin().await.unwrap(), operator.begin().await.unwrap());
    // The one who looks for a deadlock is the one whose transaction is ended for it.
    operator.execute("SET LOCAL deadlock_timeout = '1h'").await.unwrap();
    operator.execute("UPDATE tallies SET changes = 0 WHERE number = 2").await.unwrap();
    holder.execute("UPDATE tallies SET changes = 0 WHERE number = 1").await.unwrap();

    let operator = async {
        // The command has its row, and waits for the first tally.
        until_waiting(server, 1).await;
        operator.execute(change).await.unwrap();
        operator.commit().await.unwrap();
    };
    let holder = async {
        // The operator, who has the second tally, waits for the row.
        until_waiting(server, 2).await;
        holder.commit().await.unwrap();
    };
    let (answer, (), ()) = join!(command, operator, holder);
    // Once; or again, where what is sent again has the row before the operator, who has waited for it, wakes up.
    assert!(server.output().contains("deadlock detected"));
    answer
}

/// Waits until so many transactions wait for another one.
async fn until_waiting(server: &Server, transactions: i64) {
    let pool = server.pool(1);
    until_some("transactions wait for each other", async || {
        let waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted";
        let waiting: i64 = query_scalar(waiting).fetch_one(&pool).await.unwrap();
        (waiting == transactions).then_some(())
    })
    .await;
}

const LENGTHEN: &str = "UPDATE deadlocks SET expires_at = expires_at + interval '1 hour'";
const CLEAN_UP: &str = "DELETE FROM deadlocks WHERE expires_at <= now()";

fn key() -> Key {
    Key::new("", "order-1")
}

async fn claim(backend: &PostgresBackend, lease: Duration) -> Token {
    let token = Token::random();
    let answer = backend.claim(&key(), token, &Fingerprint::of("a request"), lease).await;
    assert_eq!(answer.unwrap(), Claim::Acquired);
    token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_that_is_ended_for_a_deadlock_is_sent_again() {
    let (server, backend) = start().await;
    claim(&backend, Duration::from_millis(1)).await;
    until_some("the claim has expired", async || backend.get(&key()).await.unwrap().is_none().then_some(())).await;
    let token = crossed(&server, claim(&backend, LONG), CLEAN_UP).await;
    assert_eq!(backend.renew(&key(), token, LONG).await.unwrap(), Ownership::Held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_heartbeat_that_is_ended_for_a_deadlock_is_sent_again() {
    let (server, backend) = start().await;
    let token = claim(&backend, LONG).await;
    let answer = crossed(&server, backend.renew(&key(), token, LONG), LENGTHEN).await;
    assert_eq!(answer.unwrap(), Ownership::Held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_is_ended_for_a_deadlock_is_sent_again() {
    let (server, backend) = start().await;
    let token = claim(&backend, LONG).await;
    let record = Record::value(&Fingerprint::of("a request"), b"done");
    let answer = crossed(&server, backend.complete(&key(), token, &record, LONG), LENGTHEN).await;
    assert_eq!(answer.unwrap(), Ownership::Held);
    assert_eq!(backend.get(&key()).await.unwrap(), Some(Entry::Completed(record)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_release_that_is_ended_for_a_deadlock_is_sent_again() {
    let (server, backend) = start().await;
    let token = claim(&backend, LONG).await;
    crossed(&server, backend.release(&key(), token), LENGTHEN).await.unwrap();
    assert_eq!(backend.get(&key()).await.unwrap(), None);
}
