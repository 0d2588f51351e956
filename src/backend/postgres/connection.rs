//! One connection of a pool, for the time of one command.

use std::time::Duration;

use sqlx::{
    Connection, Error, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::sleep;

use super::failure::{ends_connection, in_time, is_conflict};
use crate::BackendError;

/// How often a statement is sent that the server gives up for the sake of another one. With `SERIALIZABLE` as the default
/// of transactions that happens often in a crowd.
const SENDINGS: usize = 20;

/// The longest pause in between.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends the statement that `query` makes, and returns the row that it answers with, if there is one.
///
/// What it changes is durable when this returns.
pub(super) async fn ask<'a>(
    pool: &PgPool,
    limit: Duration,
    query: impl Fn() -> Query<'a, Postgres, PgArguments> + Send + Sync,
) -> Result<Option<PgRow>, BackendError> {
    let answer = async {
        let mut line = Line::take(pool).await?;
        let mut sendings = 1;
        loop {
            // Until the end of the statement, not only until the first row: the row comes before the commit.
            let answer = query().fetch_optional(line.connection()?).await;
            if sendings == SENDINGS || !answer.as_ref().is_err_and(is_conflict) {
                line.give_back(answer.as_ref().err());
                return answer;
            }
            sendings += 1;
            sleep(PAUSE.mul_f64(rand::random())).await;
        }
    };
    in_time(limit, answer).await
}

/// Whether a connection of `pool` answers.
pub(super) async fn ping(pool: &PgPool, limit: Duration) -> Result<(), BackendError> {
    let answer = async {
        let mut line = Line::take(pool).await?;
        let answer = line.connection()?.ping().await;
        line.give_back(answer.as_ref().err());
        answer
    };
    in_time(limit, answer).await
}

/// A connection that is closed, not given back, when its command is dropped before the answer: the pool would wait for
/// that answer, with one connection less, for as long as a silent server keeps its socket open.
struct Line(Option<PoolConnection<Postgres>>);

impl Line {
    /// Takes a connection, and makes one if there is none.
    ///
    /// That has a task of its own: to connect may take longer than a caller is patient, and if it ended with its caller,
    /// none would ever be made.
    async fn take(pool: &PgPool) -> Result<Self, Error> {
        let connects = pool.num_idle() == 0 && pool.size() < pool.options().get_max_connections();
        let connection = if connects {
            let pool = pool.clone();
            let connecting = tokio::spawn(async move { pool.acquire().await });
            connecting.await.map_err(|_| Error::WorkerCrashed)?
        } else {
            pool.acquire().await
        };
        Ok(Self(Some(connection?)))
    }

    fn connection(&mut self) -> Result<&mut sqlx::PgConnection, Error> {
        // It is there until it is given back, which takes the line.
        self.0.as_deref_mut().ok_or(Error::WorkerCrashed)
    }

    /// Gives the connection back, unless `error` shows that it is of no more use.
    fn give_back(mut self, error: Option<&Error>) {
        if !error.is_some_and(ends_connection) {
            drop(self.0.take());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
