//! A payments API that is safe to retry. It prints the commands that show it.
//!
//! ```console
//! cargo run --example axum -- --port 3000
//! cargo run --example axum -- --wait 5000 # duplicates wait up to 5 s for the first answer
//! ```

use std::{
    str::FromStr,
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
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { port, wait } = Arguments::parse(std::env::args().skip(1))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}");
    print_what_to_try(&url, wait);
    let idempotency = idempotency(wait);
    let runs = idempotency.runs();
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app(idempotency)).with_graceful_shutdown(stop).await?;
    // The server has waited for its clients. There may be runs whose client has left.
    println!("stopping, runs left: {}", runs.len());
    runs.drain().await;
    println!("stopped, runs left: {}", runs.len());
    Ok(())
}

fn print_what_to_try(url: &str, wait: Option<Duration>) {
    let json = "-H 'Content-Type: application/json' -d '{\"amount\":1200,\"currency\":\"eur\"}'";
    println!();
    println!("# Send this twice: the second answer is the first one, marked idempotent-replayed: true");
    println!("curl -i {url}/payments -H 'X-Idempotency-Key: k-1' {json}");
    match wait {
        None => println!("# Twenty at once: one runs and gets 201, nineteen get 409"),
        Some(max) => println!("# Twenty at once: one runs, the others wait for it up to {max:?}, all get 201"),
    }
    println!(
        "seq 20 | xargs -P 20 -I {{}} curl -s -o /dev/null -w '%{{http_code}}\\n' '{url}/payments?delay_ms=1000' \
         -H 'X-Idempotency-Key: k-2' {json}"
    );
    println!("# What was executed: two payments");
    println!("curl {url}/payments");
}

struct Arguments {
    /// 0, the default, means any free port.
    port: u16,
    /// How long a duplicate waits for the first answer; none, the default: it gets 409.
    wait: Option<Duration>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self { port: 0, wait: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("usage: axum [--port N] [--wait MS]")?;
            match &*name {
                "--port" => parsed.port = number(&name, &value)?,
                "--wait" => {
                    let milliseconds: u32 = number(&name, &value)?;
                    parsed.wait = (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()));
                }
                _ => return Err(format!("{name} is unknown; usage: axum [--port N] [--wait MS]")),
            }
        }
        Ok(parsed)
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} takes a number, which {value} is not, or it is too large"))
}
