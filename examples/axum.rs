//! A payments API that is safe to retry. It prints the commands that show it.
//!
//! ```console
//! cargo run --example axum -- --port 3000
//! cargo run --example axum -- --wait 5000 # duplicates wait up to 5 s for the first answer
//! ```

mod payments;

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use payments::{Delay, NewPayment};
use serde::Serialize;
use tokio::net::TcpListener;
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

const USAGE: &str = "usage: axum [--port N] [--wait MS]";

/// What the service has done: here a list, elsewhere a database.
type Ledger = Arc<Mutex<Vec<Payment>>>;

#[derive(Clone, Serialize)]
struct Payment {
    id: usize,
    amount: u64,
    currency: String,
}

#[derive(Serialize)]
struct Payments {
    count: usize,
    payments: Vec<Payment>,
}

fn idempotency(wait: Option<Duration>) -> IdempotencyLayer<MemoryBackend> {
    let layer = IdempotencyLayer::new(MemoryBackend::new());
    match wait {
        None => layer,
        Some(max) => layer.wait(max),
    }
}

fn app(idempotency: IdempotencyLayer<MemoryBackend>) -> Router {
    Router::new()
        .route("/payments", get(list).post(create))
        // The one line that makes POST safe to retry.
        .layer(idempotency)
        .with_state(Ledger::default())
}

async fn create(
    State(ledger): State<Ledger>,
    Query(delay): Query<Delay>,
    Json(new): Json<NewPayment>,
) -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(delay.delay_ms)).await;
    let mut payments = ledger.lock().unwrap();
    let payment = Payment { id: payments.len() + 1, amount: new.amount, currency: new.currency };
    payments.push(payment.clone());
    (StatusCode::CREATED, [(header::LOCATION, format!("/payments/{}", payment.id))], Json(payment))
}

async fn list(State(ledger): State<Ledger>) -> Json<Payments> {
    let payments = ledger.lock().unwrap().clone();
    Json(Payments { count: payments.len(), payments })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Port 0 means any free port. Without a wait duplicates get 409.
    let (mut port, mut wait) = (0, None);
    for (name, value) in payments::arguments(USAGE)? {
        match &*name {
            "--port" => port = payments::number(&name, &value)?,
            "--wait" => wait = payments::milliseconds(&name, &value)?,
            _ => return Err(format!("{name} is unknown; {USAGE}").into()),
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}\n");
    payments::print_what_to_post(&url, "", wait);
    println!("# What was executed: two payments\ncurl {url}/payments");

    let idempotency = idempotency(wait);
    let runs = idempotency.runs();
    payments::serve(listener, app(idempotency), runs).await
}
