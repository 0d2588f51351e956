//! The server under load: handlers that do what the path says, behind one layer for each way of using it.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::Path, response::IntoResponse, response::Response, routing::post};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body::Frame;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::JoinHandle,
    time::{Sleep, sleep},
};
use tower_http::catch_panic::CatchPanicLayer;
use tower_idempotency::{BodyHash, BoxBackend, Deduplicator, IdempotencyLayer, OnDisconnect};

/// So short that records expire all the time.
pub(crate) const RETENTION: Duration = Duration::from_millis(150);
/// So short that the runs of some handlers are renewed.
pub(crate) const LEASE: Duration = Duration::from_millis(200);
/// Of bodies, in both directions.
pub(crate) const LIMIT: usize = 4 << 10;

/// What handlers panic with.
pub(crate) struct Own;

/// The server, and what else uses its backend.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) layers: Vec<(&'static str, IdempotencyLayer<BoxBackend>)>,
    pub(crate) messages: Deduplicator<BoxBackend>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start(backend: BoxBackend) -> Self {
        let layers = layers(&backend);
        let mut router = Router::new();
        for (name, layer) in &layers {
            let handlers = Router::new().route("/{deed}", post(handle)).layer(layer.clone());
            router = router.nest(&format!("/{name}"), handlers);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, router.layer(CatchPanicLayer::new()));
        let server = server.with_graceful_shutdown(async { drop(stopped.await) });
        let server = tokio::spawn(async { server.await.unwrap() });
        let messages = Deduplicator::new(backend).namespace("messages").retention(RETENTION).lease(LEASE);
        Self { address, layers, messages: messages.wait(Duration::from_secs(5)), stop, server }
    }

    /// As a service does when it shuts down: the server first, then the runs whose client has gone.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.server.await.unwrap();
        for (_, layer) in &self.layers {
            layer.runs().drain().await;
        }
        self.messages.runs().drain().await;
    }
}

fn layers(backend: &BoxBackend) -> Vec<(&'static str, IdempotencyLayer<BoxBackend>)> {
    let layer = || IdempotencyLayer::new(backend.clone()).retention(RETENTION).lease(LEASE).limits(LIMIT, LIMIT);
    let layers = [
        ("plain", layer()),
        ("patient", layer().wait(Duration::from_secs(5))),
        ("impatient", layer().wait(Duration::from_millis(5))),
        ("hashed", layer().or_body_hash(BodyHash::any_caller(RETENTION))),
        ("once", layer().at_most_once()),
        ("cancelling", layer().on_disconnect(OnDisconnect::Cancel).wait(Duration::from_secs(5))),
    ];
    layers.map(|(name, layer)| (name, layer.namespace(name))).into()
}

async fn handle(Path(deed): Path<String>, body: Bytes) -> Response {
    let events = [(header::CONTENT_TYPE, "text/event-stream")];
    match &*deed {
        "quick" => (StatusCode::CREATED, body).into_response(),
        "slow" => done_in(20).await,
        // Longer than a third of the lease, more than once.
        "long" => done_in(150).await,
        "fail" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "panic" => std::panic::panic_any(Own),
        "large" => vec![b'l'; LIMIT + 1].into_response(),
        "stream" => frames(5, 100),
        "large-stream" => frames(10, LIMIT / 4),
        "endless-stream" => frames(usize::MAX, 100),
        "events" => (events, frames(5, 100)).into_response(),
        "endless-events" => (events, frames(usize::MAX, 100)).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn done_in(milliseconds: u64) -> Response {
    sleep(Duration::from_millis(milliseconds)).await;
    (StatusCode::CREATED, "done").into_response()
}

fn frames(left: usize, size: usize) -> Response {
    Body::new(Frames { left, size, pause: None }).into_response()
}

/// A body of unknown length, with a pause before each frame.
struct Frames {
    left: usize,
    size: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(1))));
        ready!(pause.as_mut().poll(cx));
        self.pause = None;
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(vec![b'f'; self.size].into()))))
    }
}
