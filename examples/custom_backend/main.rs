//! A backend of one's own, on `rusqlite`: judged by the conformance suite, then at work. See `docs/guide/backend.md`.
//!
//! ```console
//! cargo run --example custom_backend --features test-util
//! ```

#[allow(unreachable_pub, reason = "the guide shows a library")]
mod sqlite;

use std::{error::Error, time::Instant};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
    routing::post,
};
use tower::ServiceExt;
use tower_idempotency::{IdempotencyLayer, testing};

use crate::sqlite::SqliteBackend;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("custom_backend_{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("idempotency.db");

    let started = Instant::now();
    testing::conformance(|| async { SqliteBackend::open(&file).expect("the file can be written") }).await;
    println!("SqliteBackend keeps the laws ({:.1} s)", started.elapsed().as_secs_f64());

    // The second service opens the file anew, as another process or the next one would.
    for who in ["the first process", "the next process"] {
        let handler = post(async move || (StatusCode::CREATED, format!("paid by {who}\n")));
        let layer = IdempotencyLayer::new(SqliteBackend::open(&file)?);
        let service = Router::new().route("/payments", handler).layer(layer);
        let request = Request::post("/payments").header("x-idempotency-key", "order-7").body(Body::empty())?;
        print(who, service.oneshot(request).await?).await?;
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

async fn print(who: &str, response: Response<Body>) -> Result<(), Box<dyn Error>> {
    let replayed = response.headers().contains_key("idempotent-replayed");
    let status = response.status();
    let body = String::from_utf8(to_bytes(response.into_body(), 1024).await?.into())?;
    print!("{who} answers {status}, replayed: {replayed}: {body}");
    Ok(())
}
