//! A payments API that is safe to retry on any number of processes, which share one Redis.
//!
//! ```console
//! redis-server --port 6400 &
//! cargo run --example axum_redis --features redis -- --redis redis://127.0.0.1:6400 --port 3000 &
//! cargo run --example axum_redis --features redis -- --redis redis://127.0.0.1:6400 --port 3001 &
//! ```
//!
//! `--wait MS` lets duplicates wait for the first answer, `--lease MS` is how long a crashed process blocks a key.

mod payments;

use std::{error::Error, future::ready, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use payments::{Delay, NewPayment};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, time::timeout};
use tower_idempotency::{
    IdempotencyLayer, RedisBackend, RedisConnection, Run,
    redis::{Client, Cmd, FromRedisValue},
};

const USAGE: &str = "usage: axum_redis [--port N] [--redis URL] [--wait MS] [--lease MS]";

/// What the service has done: here a hash in the same Redis, elsewhere a database.
const LEDGER: &str = "payments";

#[derive(Serialize, Deserialize)]
struct Payment {
    id: String,
    amount: u64,
    currency: String,
}

#[derive(Serialize)]
struct Payments {
    count: usize,
    payments: Vec<Payment>,
}

fn app(idempotency: IdempotencyLayer<RedisBackend>, ledger: RedisConnection) -> Router {
    Router::new()
        .route("/payments", get(list).post(create))
        // The one line that makes POST safe to retry.
        .layer(idempotency)
        .with_state(ledger)
}

async fn create(
    State(ledger): State<RedisConnection>,
    Extension(run): Extension<Run>,
    Query(delay): Query<Delay>,
    Json(new): Json<NewPayment>,
) -> Result<impl IntoResponse, Failure> {
    tokio::time::sleep(Duration::from_millis(delay.delay_ms)).await;
    let id = run.derive(["payment"]);
    let payment = pay(ledger, Payment { id, amount: new.amount, currency: new.currency }).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/payments/{}", payment.id))], Json(payment)))
}

/// The layer keeps requests from running twice, but a process that dies after this write, or stalls past its lease, may
/// leave its request to another run. The id is made of the key, and the write has an effect only where nothing is: so the
/// *payment* is unique, whatever happens.
async fn pay(ledger: RedisConnection, payment: Payment) -> Result<Payment, Failure> {
    let is_new = ask(&ledger, &Cmd::hset_nx(LEDGER, &payment.id, serde_json::to_string(&payment)?)).await?;
    if is_new {
        return Ok(payment);
    }
    let earlier: String = ask(&ledger, &Cmd::hget(LEDGER, &payment.id)).await?;
    Ok(serde_json::from_str(&earlier)?)
}

async fn list(State(ledger): State<RedisConnection>) -> Result<Json<Payments>, Failure> {
    let payments: Vec<String> = ask(&ledger, &Cmd::hvals(LEDGER)).await?;
    let payments: Vec<Payment> =
        payments.iter().map(|payment| serde_json::from_str(payment)).collect::<Result<_, _>>()?;
    Ok(Json(Payments { count: payments.len(), payments }))
}

/// The answer within a second.
async fn ask<T: FromRedisValue>(ledger: &RedisConnection, command: &Cmd) -> Result<T, Failure> {
    let mut connection = ledger.clone();
    Ok(timeout(Duration::from_secs(1), command.query_async(&mut connection)).await??)
}

/// Redis did not answer: 503, which is not recorded, so that a retry runs.
struct Failure;

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        eprintln!("{error}");
        Self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Port 0 means any free port. Without a wait duplicates get 409.
    let (mut port, mut redis, mut wait, mut lease) = (0, "redis://127.0.0.1/".to_owned(), None, None);
    for (name, value) in payments::arguments(USAGE)? {
        match &*name {
            "--port" => port = payments::number(&name, &value)?,
            "--redis" => redis = value,
            "--wait" => wait = payments::milliseconds(&name, &value)?,
            "--lease" => lease = payments::milliseconds(&name, &value)?,
            _ => return Err(format!("{name} is unknown; {USAGE}").into()),
        }
    }
    let client = Client::open(&*redis)?;
    let backend = RedisBackend::connect(redis).await?;
    let mut idempotency = IdempotencyLayer::new(backend).require_key();
    idempotency = wait.into_iter().fold(idempotency, IdempotencyLayer::wait);
    idempotency = lease.into_iter().fold(idempotency, IdempotencyLayer::lease);

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}\n");
    // The host is part of a request: behind a load balancer it is one for all processes.
    payments::print_what_to_post(&url, " -H 'Host: shop.example'", wait);
    println!("# What was executed, by all processes: two payments\ncurl {url}/payments");

    let runs = idempotency.runs();
    let ledger = RedisConnection::new(move || ready(Ok(client.clone())));
    payments::serve(listener, app(idempotency, ledger), runs).await
}
