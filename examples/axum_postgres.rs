//! A payments API over a ledger in PostgreSQL: each payment is booked once, whatever crashes.
//!
//! ```console
//! cargo run --example axum_postgres --features axum,postgres -- --database postgres://postgres@127.0.0.1/postgres --port 3000 &
//! cargo run --example axum_postgres --features axum,postgres -- --database postgres://postgres@127.0.0.1/postgres --port 3001 &
//! ```
//!
//! `--wait MS` lets duplicates wait for the first answer, `--lease MS` is how long a crashed process blocks a key.

mod payments;

use std::{error::Error, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use payments::{Delay, NewPayment};
use serde::Serialize;
use tokio::net::TcpListener;
use tower_idempotency::{
    IdempotencyLayer, PostgresBackend, Run,
    sqlx::{self, PgPool, postgres::PgPoolOptions},
};

const USAGE: &str = "usage: axum_postgres [--port N] [--database URL] [--wait MS] [--lease MS]";

/// Nothing in it knows of keys. The lock lets processes that start together create it one after the other.
const LEDGER: &str = "SELECT pg_advisory_xact_lock(hashtext('ledger'));
    CREATE TABLE IF NOT EXISTS ledger (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        amount bigint NOT NULL,
        currency text NOT NULL
    )";

#[derive(Clone)]
struct Shop {
    ledger: PgPool,
    /// Over the same database as the ledger: one transaction reaches both.
    backend: PostgresBackend,
}

#[derive(Serialize)]
struct Payment {
    id: i64,
    amount: i64,
    currency: String,
}

#[derive(Serialize)]
struct Payments {
    count: usize,
    payments: Vec<Payment>,
}

fn app(idempotency: IdempotencyLayer<PostgresBackend>, shop: Shop) -> Router {
    Router::new()
        .route("/payments", get(list).post(create))
        // The one line that makes POST safe to retry.
        .layer(idempotency)
        .with_state(shop)
}

async fn create(
    State(shop): State<Shop>,
    run: Run,
    Query(delay): Query<Delay>,
    Json(new): Json<NewPayment>,
) -> Result<impl IntoResponse, Failure> {
    tokio::time::sleep(Duration::from_millis(delay.delay_ms)).await;
    let amount = i64::try_from(new.amount).map_err(|_| Failure(StatusCode::UNPROCESSABLE_ENTITY))?;

    let mut transaction = shop.ledger.begin().await?;
    let id = sqlx::query_scalar("INSERT INTO ledger (amount, currency) VALUES ($1, $2) RETURNING id")
        .bind(amount)
        .bind(&new.currency)
        .fetch_one(&mut *transaction)
        .await?;
    let payment = Payment { id, amount, currency: new.currency };
    let location = [(header::LOCATION, format!("/payments/{id}"))];
    let response = (StatusCode::CREATED, location, Json(payment)).into_response();
    // What is in the ledger and what duplicates are answered: both, or neither.
    Ok(shop.backend.commit(transaction, &run, response).await?)
}

async fn list(State(shop): State<Shop>) -> Result<Json<Payments>, Failure> {
    let rows: Vec<(i64, i64, String)> =
        sqlx::query_as("SELECT id, amount, currency FROM ledger ORDER BY id").fetch_all(&shop.ledger).await?;
    let payments: Vec<_> = rows.into_iter().map(|(id, amount, currency)| Payment { id, amount, currency }).collect();
    Ok(Json(Payments { count: payments.len(), payments }))
}

struct Failure(StatusCode);

/// The database does not answer, another run has taken the key, or nobody knows whether the payment is booked: 503 each
/// time. It is not recorded, so the client sends the same request again, which books the payment or finds the record.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        eprintln!("{error}");
        Self(StatusCode::SERVICE_UNAVAILABLE)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Port 0 means any free port. Without a wait duplicates get 409.
    let (mut port, mut database, mut wait, mut lease) =
        (0, "postgres://postgres@127.0.0.1/postgres".to_owned(), None, None);
    for (name, value) in payments::arguments(USAGE)? {
        match &*name {
            "--port" => port = payments::number(&name, &value)?,
            "--database" => database = value,
            "--wait" => wait = payments::milliseconds(&name, &value)?,
            "--lease" => lease = payments::milliseconds(&name, &value)?,
            _ => return Err(format!("{name} is unknown; {USAGE}").into()),
        }
    }
    // A request that finds no connection for so long is refused.
    let ledger = PgPoolOptions::new().acquire_timeout(Duration::from_secs(2)).connect(&database).await?;
    sqlx::raw_sql(LEDGER).execute(&ledger).await?;
    let backend = PostgresBackend::new(ledger.clone()).clean_up();
    backend.migrate().await?;
    let mut idempotency = IdempotencyLayer::new(backend.clone()).require_key();
    idempotency = wait.into_iter().fold(idempotency, IdempotencyLayer::wait);
    idempotency = lease.into_iter().fold(idempotency, IdempotencyLayer::lease);

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}\n");
    // The host is part of a request: behind a load balancer it is one for all processes.
    payments::print_what_to_post(&url, " -H 'Host: shop.example'", wait);
    println!("# What was executed, by all processes: two payments\ncurl {url}/payments");

    let runs = idempotency.runs();
    payments::serve(listener, app(idempotency, Shop { ledger, backend }), runs).await
}
