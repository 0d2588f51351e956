//! Webhooks that arrive twice, even within a microsecond, and are processed once: three ways to know an event. It prints
//! the commands that show it.
//!
//! ```console
//! cargo run --example webhooks --features json
//! ```

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use tower_idempotency::{BodyHash, IdempotencyLayer, KeySource, MemoryBackend};

/// What was processed.
type Events = Arc<Mutex<Vec<String>>>;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn app() -> Router {
    // One backend; a namespace keeps each sender's keys apart. Duplicates wait for the first delivery, since a sender
    // that gets 409 would only send once more.
    let backend = Arc::new(MemoryBackend::new());
    let layer = |sender: &str| IdempotencyLayer::new(backend.clone()).namespace(sender).wait(Duration::from_secs(10));

    // The sender names each event in a header.
    let by_header = layer("shop").key(KeySource::header("webhook-id").or(KeySource::header("svix-id")));
    // The event's id is in its body.
    let by_field = layer("bank").key(KeySource::json_pointer("/event/id"));
    // Nothing but the body tells two events apart.
    let by_body = layer("sensor").or_body_hash(BodyHash::any_caller(HOUR));

    Router::new()
        .route("/shop", post(process).layer(by_header))
        .route("/bank", post(process).layer(by_field))
        .route("/sensor", post(process).layer(by_body))
        .route("/events", get(list))
        .with_state(Events::default())
}

async fn process(State(events): State<Events>, event: String) -> String {
    tokio::time::sleep(Duration::from_millis(400)).await;
    let mut events = events.lock().unwrap();
    events.push(event);
    format!("processed as number {}\n", events.len())
}

async fn list(State(events): State<Events>) -> Json<Vec<String>> {
    Json(events.lock().unwrap().clone())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}");
    println!();
    println!("# One event, delivered twice at once: both get the one answer");
    let json = "-H 'Content-Type: application/json'";
    for delivery in [
        format!("{url}/shop -H 'webhook-id: msg_1' {json} -d '{{\"order\":1}}'"),
        format!("{url}/bank {json} -d '{{\"event\":{{\"id\":\"evt_1\"}},\"paid\":1200}}'"),
        format!("{url}/sensor -d 'celsius 21.5'"),
    ] {
        println!("(curl -s {delivery} & curl -s {delivery} & wait)");
    }
    println!("# What was processed: three events");
    println!("curl -s {url}/events");
    axum::serve(listener, app()).await
}
