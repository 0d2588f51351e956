//! Records that are encrypted before they are stored. See `docs/guide/encryption.md`.
//!
//! ```console
//! cargo run --example encryption
//! ```

mod encrypted;

use std::{error::Error, time::Duration};

use axum::{Router, body::Body, http::Request, routing::post};
use chacha20poly1305::{Key as Secret, aead::Generate};
use tower::ServiceExt;
use tower_idempotency::{Backend, Entry, IdempotencyLayer, Key, MemoryBackend, Token};

use crate::encrypted::EncryptedBackend;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // It stands for a store that others can read.
    let store = MemoryBackend::new();
    let (old, new) = ((1, Secret::generate()), (2, Secret::generate()));

    let before = EncryptedBackend::new(store.clone(), old, &[]);
    println!("the first request:  {}", pay(before).await?);
    let key = Key::new("", "order-7");
    let Some(Entry::Completed(stored)) = store.get(&key).await? else { return Err("nothing is stored".into()) };
    println!("what is stored:     {:?} ..", stored.to_bytes().slice(50..80));

    let rotated = EncryptedBackend::new(store.clone(), new, &[old]);
    println!("with the next key:  {}", pay(rotated).await?);

    let elsewhere = Key::new("", "order-8");
    let _stored = store.complete(&elsewhere, Token::random(), &stored, Duration::from_secs(60)).await?;
    let error =
        EncryptedBackend::new(store, new, &[old]).get(&elsewhere).await.err().ok_or("a moved record was read")?;
    println!("a record elsewhere: {}", error.source().map_or_else(|| error.to_string(), ToString::to_string));
    Ok(())
}

async fn pay(backend: impl Backend) -> Result<String, Box<dyn Error>> {
    let handler = post(async || "paid with card 4242");
    let service = Router::new().route("/payments", handler).layer(IdempotencyLayer::new(backend));
    let request = Request::post("/payments").header("idempotency-key", "order-7").body(Body::empty())?;
    let response = service.oneshot(request).await?;
    let replayed = response.headers().contains_key("idempotent-replayed");
    let body = axum::body::to_bytes(response.into_body(), 1024).await?;
    Ok(format!("{}, replayed: {replayed}", String::from_utf8_lossy(&body)))
}
