use std::time::Duration;

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use http::Response;
use tower_idempotency::{FingerprintPolicy, IdempotencyLayer, KeySource, MemoryBackend, RecordPolicy, Rejection};

type Events = std::sync::Arc<std::sync::Mutex<Vec<String>>>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn app() -> Router {
    let webhooks = IdempotencyLayer::new(MemoryBackend::new())
        .namespace("shop") // ids of two senders may be equal
        .key(KeySource::header("webhook-id").or(KeySource::json_pointer("/event/id")))
        .fingerprint(FingerprintPolicy::none()) // deliveries may differ in their time, or count themselves
        .wait(Duration::from_secs(10)) // whoever gets 409 only sends once more
        .record(RecordPolicy::when(|answer| answer.status.is_success()))
        .retention(7 * DAY) // longer than the sender goes on
        .on_rejection(|rejection, answer| match rejection {
            Rejection::NotKept => Response::new(Bytes::from_static(b"done before\n")),
            _ => answer,
        });
    Router::new().route("/webhooks", post(process)).layer(webhooks).with_state(Events::default())
}

async fn process(State(events): State<Events>, event: String) -> String {
    let mut events = events.lock().unwrap();
    events.push(event);
    format!("processed as number {}\n", events.len())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
