//! What `tests/stores/` has to know of PostgreSQL.

use tower_idempotency::{
    Key, PostgresBackend,
    sqlx::{postgres::PgListener, query_as, query_scalar},
};

use super::{Fate, Proxy, Server, backend_at};
use crate::behaviour::support::until_some;

pub(crate) type Store = PostgresBackend;
pub(crate) type Sent = str;

/// A server that has what it has answered when it was killed, as each of them has.
pub(crate) fn durable() -> Server {
    Server::start(&[])
}

pub(crate) async fn backend_over(server: &Server, name: &str) -> Store {
    backend_at(server.pool(10), name).await
}

pub(crate) async fn backend_behind(proxy: &Proxy, name: &str) -> Store {
    backend_at(proxy.pool(5), name).await
}

/// After these a statement is sent once more for the same request.
pub(crate) const LOSSES: [Fate; 3] = [Fate::LoseReply, Fate::Lose, Fate::FallSilent];

pub(crate) fn is_claim(statement: &str) -> bool {
    statement.starts_with("WITH live")
}

pub(crate) fn is_record(statement: &str) -> bool {
    statement.starts_with("WITH changed AS (INSERT")
}

pub(crate) fn is_release(statement: &str) -> bool {
    statement.starts_with("WITH changed AS (DELETE")
}

pub(crate) fn is_heartbeat(statement: &str) -> bool {
    statement.starts_with("UPDATE")
}

/// How many connections have nothing to do but to listen, which their last statement tells.
pub(crate) async fn subscriptions(server: &Server) -> usize {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%advisory_%lock_shared%'
        AND query NOT LIKE '%pg_stat_activity%'";
    let count: i64 = query_scalar(count).fetch_one(&server.pool(1)).await.unwrap();
    usize::try_from(count).unwrap()
}

/// Waits until one node waits for so many keys.
pub(crate) async fn until_waited_for(server: &Server, keys: i64) {
    until_locked(server, 1, keys).await;
}

/// Waits until so many connections hold the locks of so many keys in all.
pub(crate) async fn until_locked(server: &Server, connections: i64, locks: i64) {
    let pool = server.pool(1);
    let held = "SELECT count(DISTINCT pid), count(*) FROM pg_locks WHERE locktype = 'advisory'";
    until_some("the keys are locked as they should be", async || {
        let held: (i64, i64) = query_as(held).fetch_one(&pool).await.unwrap();
        (held == (connections, locks)).then_some(())
    })
    .await;
}

/// Ends the connection that holds keys' locks.
pub(crate) async fn cut_subscription(server: &Server) {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'";
    let cut: i64 = query_scalar(cut).fetch_one(&server.pool(1)).await.unwrap();
    assert_eq!(cut, 1);
}

/// What nodes notify each other of.
pub(crate) struct Notices(PgListener);

impl Notices {
    pub(crate) async fn listen(server: &Server) -> Self {
        let mut listener = PgListener::connect_with(&server.pool(1)).await.unwrap();
        listener.listen(CHANNEL).await.unwrap();
        Self(listener)
    }

    pub(crate) fn of(key: Key) -> String {
        key.to_string()
    }

    pub(crate) async fn next(&mut self) -> String {
        self.0.recv().await.unwrap().payload().to_owned()
    }
}

/// Where every node of a database listens.
pub(crate) const CHANNEL: &str = "tower_idempotency";
