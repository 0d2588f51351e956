//! A payments API that is safe to retry.
//!
//! ```console
//! cargo run --example axum -- --port 3000
//! ```

use std::{
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
use serde::{Deserialize, Serialize};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

/// What the service has done: here a list, elsewhere a database.
type Ledger = Arc<Mutex<Vec<Payment>>>;

#[derive(Clone, Serialize)]
struct Payment {
    id: usize,
    amount: u64,
    currency: String,
}

#[derive(Deserialize)]
struct NewPayment {
    amount: u64,
    currency: String,
}

#[derive(Deserialize)]
struct Delay {
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Serialize)]
struct Payments {
    count: usize,
    payments: Vec<Payment>,
}

fn app() -> Router {
    Router::new()
        .route("/payments", get(list).post(create))
        // The one line that makes POST safe to retry.
        .layer(IdempotencyLayer::new(MemoryBackend::new()))
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
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port()?)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}");
    print_what_to_try(&url);
    axum::serve(listener, app()).await?;
    Ok(())
}

fn print_what_to_try(url: &str) {
    let json = "-H 'Content-Type: application/json' -d '{\"amount\":1200,\"currency\":\"eur\"}'";
    println!();
    println!("# Send this twice: the second answer is the first one, marked idempotent-replayed: true");
    println!("curl -i {url}/payments -H 'X-Idempotency-Key: k-1' {json}");
    println!("# Twenty at once: one runs and gets 201, nineteen get 409");
    println!(
        "seq 20 | xargs -P 20 -I {{}} curl -s -o /dev/null -w '%{{http_code}}\\n' '{url}/payments?delay_ms=1000' \
         -H 'X-Idempotency-Key: k-2' {json}"
    );
    println!("# What was executed: two payments");
    println!("curl {url}/payments");
}

/// The value of `--port`; 0, the default, means any free port.
fn port() -> Result<u16, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(0),
        ["--port", port] => port.parse().map_err(|_| format!("--port takes a number up to 65535, not {port}")),
        _ => Err("usage: axum [--port N]".to_owned()),
    }
}
