//! Applications that do not do it as the documentation says: the audit must find them out.

use std::{env, ffi::OsString, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};
use tower_idempotency::{
    CommitError, IdempotencyLayer, PostgresBackend, Run,
    sqlx::{self, Executor, PgPool, Postgres, postgres::PgPoolOptions},
};

/// Tells a process of the tests that it is an application, which one, and over which database.
const ROLE: &str = "TOWER_IDEMPOTENCY_WRONG_APPLICATION";
/// The test that an application runs in.
const ROLE_TEST: &str = "applications_that_do_it_otherwise_are_found_out";

/// How a payment is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The booking, and then the record, in a transaction of its own.
    BookOutside,
    /// The record, and then the booking.
    RecordFirst,
    /// The booking in a transaction, and then the layer's own record.
    LeaveItToTheLayer,
}

/// The command that starts an application which pays in this way.
pub(crate) fn application(way: Way, database: &str) -> Vec<OsString> {
    let role = format!("{ROLE}={way:?} {database}");
    let tests = env::current_exe().unwrap();
    let command: [OsString; 6] =
        ["env".into(), role.into(), tests.into(), ROLE_TEST.into(), "--exact".into(), "--nocapture".into()];
    command.into()
}

/// Serves for good where this process was started as an application. Returns at once where it was not.
pub(crate) fn serve_as_application() {
    let Ok(role) = env::var(ROLE) else { return };
    let (way, database) = role.split_once(' ').unwrap();
    let ways = [Way::BookOutside, Way::RecordFirst, Way::LeaveItToTheLayer];
    let way = ways.into_iter().find(|known| format!("{known:?}") == way).unwrap();
    Runtime::new().unwrap().block_on(serve(way, database)).unwrap();
}

async fn serve(way: Way, database: &str) -> Result<(), Box<dyn std::error::Error>> {
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(2)).connect(database).await?;
    let table = "CREATE TABLE IF NOT EXISTS ledger (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount bigint NOT NULL)";
    pool.execute(table).await?;
    let backend = PostgresBackend::new(pool.clone());
    backend.migrate().await?;
    let layer = IdempotencyLayer::new(backend.clone()).lease(crate::LEASE);
    let app = Router::new().route("/payments", post(pay)).layer(layer).with_state((way, pool, backend));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn pay(
    State((way, pool, backend)): State<(Way, PgPool, PostgresBackend)>,
    run: Run,
    Json(payment): Json<Value>,
) -> Result<Response, StatusCode> {
    let amount = payment["amount"].as_i64().unwrap();
    let paid: Result<_, CommitError> = async {
        match way {
            Way::BookOutside => {
                let answer = book(&pool, amount).await?;
                Ok(backend.commit(pool.begin().await?, &run, answer).await?.into_response())
            }
            Way::RecordFirst => {
                let id: i64 = sqlx::query_scalar("SELECT nextval('ledger_id_seq')").fetch_one(&pool).await?;
                let answer = backend.commit(pool.begin().await?, &run, booked(id, amount)).await?;
                let insert = "INSERT INTO ledger (id, amount) OVERRIDING SYSTEM VALUE VALUES ($1, $2)";
                sqlx::query(insert).bind(id).bind(amount).execute(&pool).await?;
                Ok(answer.into_response())
            }
            Way::LeaveItToTheLayer => {
                let mut transaction = pool.begin().await?;
                let answer = book(&mut *transaction, amount).await?;
                transaction.commit().await?;
                Ok(answer)
            }
        }
    }
    .await;
    paid.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn book(to: impl Executor<'_, Database = Postgres>, amount: i64) -> Result<Response, sqlx::Error> {
    let insert = sqlx::query_scalar("INSERT INTO ledger (amount) VALUES ($1) RETURNING id");
    Ok(booked(insert.bind(amount).fetch_one(to).await?, amount))
}

/// As the example answers.
fn booked(id: i64, amount: i64) -> Response {
    let body = json!({ "id": id, "amount": amount, "currency": "eur" });
    (StatusCode::CREATED, Json(body)).into_response()
}
