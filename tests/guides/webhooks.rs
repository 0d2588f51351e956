use std::time::Duration;

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use http::Response;
use tower_idempotency::{FingerprintPolicy, IdempotencyLayer, KeySource, MemoryBackend, RecordPolicy, Rejection};

type Events = std::sync::Arc<std::sync::Mutex<Vec<String>>>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn app() -> Router {
    let webhooks = IdempotencyLayer::new(MemoryBackend::new())
        .namespace("shop") // two senders may use the same ids
        .key(KeySource::header("webhook-id").or(KeySource::json_pointer("/event/id")))
        .fingerprint(FingerprintPolicy::none()) // deliveries may contain the time or a counter
        .wait(Duration::from_secs(10)) // a sender that gets 409 only sends once more
        .record(RecordPolicy::when(|answer| answer.status.is_success()))
        .retention(7 * DAY) // longer than the sender retries
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
