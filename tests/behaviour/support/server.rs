//! Servers on loopback sockets. They end with the test's runtime.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::Request, middleware, middleware::Next};
use bytes::Bytes;
use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::Service;

/// Serves `router` the way applications do.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Serves any tower service with hyper, over HTTP/1 and HTTP/2.
pub(crate) async fn serve_tower<S, B>(service: S) -> SocketAddr
where
    S: Service<http::Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    address
}

/// What a server sees of its requests, from outside the layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visits(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    arrived: AtomicUsize,
    answered: AtomicUsize,
    abandoned: AtomicUsize,
}

impl Visits {
    pub(crate) fn around(&self, router: Router) -> Router {
        let visits = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let visits = visits.clone();
            async move {
                let mut visit = Visit::begin(&visits.0);
                let response = next.run(request).await;
                visit.answered = true;
                response
            }
        }))
    }

    /// Requests whose head has reached the service.
    pub(crate) fn arrived(&self) -> usize {
        self.0.arrived.load(Ordering::SeqCst)
    }

    /// Requests whose future has returned.
    pub(crate) fn answered(&self) -> usize {
        self.0.answered.load(Ordering::SeqCst)
    }

    /// Requests whose future was dropped before it returned.
    pub(crate) fn abandoned(&self) -> usize {
        self.0.abandoned.load(Ordering::SeqCst)
    }

    /// Requests whose future lives.
    pub(crate) fn inside(&self) -> usize {
        let gone = self.answered() + self.abandoned();
        self.arrived() - gone
    }
}

struct Visit<'a> {
    counts: &'a Counts,
    answered: bool,
}

impl<'a> Visit<'a> {
    fn begin(counts: &'a Counts) -> Self {
        counts.arrived.fetch_add(1, Ordering::SeqCst);
        Self { counts, answered: false }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let end = if self.answered { &self.counts.answered } else { &self.counts.abandoned };
        end.fetch_add(1, Ordering::SeqCst);
    }
}
