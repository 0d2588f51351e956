//! A hyper server, without a framework, that is safe to retry. It prints the commands that show it.
//!
//! ```console
//! cargo run --example hyper
//! ```

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, channel::Channel, combinators::BoxBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

/// How often the service has run.
static RUNS: AtomicUsize = AtomicUsize::new(0);

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn handle<B>(request: Request<B>) -> Result<Answer, Infallible> {
    let run = RUNS.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(Response::new(match request.uri().path() {
        "/count" => count(run),
        _ => Full::from(format!("run {run} of this service\n")).boxed(),
    }))
}

/// A body of unknown length, written piece by piece.
fn count(run: usize) -> BoxBody<Bytes, Infallible> {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        // A client that leaves does not end this: the layer reads on, and records.
        for piece in [format!("run {run} counts: "), "1, ".into(), "2, ".into(), "3\n".into()] {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if sender.send_data(Bytes::from(piece)).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}");
    println!();
    println!("# Send this twice: the second answer is the first one, marked idempotent-replayed: true");
    println!("curl -i -X POST {url} -H 'X-Idempotency-Key: k-1'");
    println!("# A stream, which arrives piece by piece the first time, and at once the second");
    println!("curl -N -X POST {url}/count -H 'X-Idempotency-Key: k-2'");

    // One layer for all connections: they share its backend.
    let service = ServiceBuilder::new().layer(IdempotencyLayer::new(MemoryBackend::new())).service(service_fn(handle));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection ended: {error}");
            }
        });
    }
}
