use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, RequestBody};

static PAYMENTS: AtomicU64 = AtomicU64::new(0);

async fn pay(request: Request<RequestBody<Incoming>>) -> Result<Response<Full<Bytes>>, BoxError> {
    let body = request.into_body().collect().await?.to_bytes();
    let payment = PAYMENTS.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(Response::new(Full::from(format!("payment {payment} of {}\n", String::from_utf8_lossy(&body)))))
}

async fn serve(listener: TcpListener) -> Result<Infallible, std::io::Error> {
    // One layer for all connections: they share its backend.
    let service = ServiceBuilder::new().layer(IdempotencyLayer::new(MemoryBackend::new())).service(service_fn(pay));
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

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Err(error) = serve(TcpListener::bind("127.0.0.1:3000").await?).await;
    Err(error)
}
