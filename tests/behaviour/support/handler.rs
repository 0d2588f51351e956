//! A handler like that of a payment service: it counts its runs, and the test can hold it at a gate.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use tokio::sync::Semaphore;

use super::until;

/// Clones are the same handler.
#[derive(Clone)]
pub(crate) struct Handler(Arc<Inner>);

struct Inner {
    entered: AtomicUsize,
    left: AtomicUsize,
    gate: Semaphore,
    answer: Box<Answer>,
}

/// Makes the response of a run from the run's number, counted from 1, and its request.
type Answer = dyn Fn(usize, &Request<Bytes>) -> Response<Body> + Send + Sync;

impl Handler {
    /// A handler that answers at once.
    pub(crate) fn new(answer: impl Fn(usize, &Request<Bytes>) -> Response<Body> + Send + Sync + 'static) -> Self {
        let handler = Self::held(answer);
        handler.open();
        handler
    }

    /// A handler that does not answer before its gate is opened.
    pub(crate) fn held(answer: impl Fn(usize, &Request<Bytes>) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            entered: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            answer: Box::new(answer),
        }))
    }

    /// A handler that makes a payment in each run, at once.
    pub(crate) fn payments() -> Self {
        Self::new(|run, _| created(run))
    }

    /// A handler that makes a payment in each run, once its gate is opened.
    pub(crate) fn held_payments() -> Self {
        Self::held(|run, _| created(run))
    }

    /// Opens the gate for good.
    pub(crate) fn open(&self) {
        self.0.gate.add_permits(1 << 20);
    }

    /// How often the handler was called.
    pub(crate) fn runs(&self) -> usize {
        self.0.entered.load(Ordering::SeqCst)
    }

    /// How many calls have ended: answered, panicked or dropped.
    pub(crate) fn ended(&self) -> usize {
        self.0.left.load(Ordering::SeqCst)
    }

    /// Waits until the handler has been called `runs` times.
    #[track_caller]
    pub(crate) fn entered(&self, runs: usize) -> impl Future<Output = ()> {
        let handler = self.clone();
        until("the handler is called", move || handler.runs() >= runs)
    }

    pub(crate) async fn run(self, request: Request<Body>) -> Response<Body> {
        let run = self.0.entered.fetch_add(1, Ordering::SeqCst) + 1;
        let _left = Left(&self.0.left);
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body that the layer has read cannot fail");
        self.0.gate.acquire().await.expect("the gate is never closed").forget();
        (self.0.answer)(run, &Request::from_parts(parts, body))
    }

    /// Routes every method and path to this handler.
    pub(crate) fn router(&self) -> Router {
        let handler = self.clone();
        Router::new().fallback(move |request| handler.run(request))
    }
}

/// Counts the end of a call, however it ends.
struct Left<'a>(&'a AtomicUsize);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The answer to a payment: no two runs give the same one.
pub(crate) fn created(run: usize) -> Response<Body> {
    Response::builder()
        .status(StatusCode::CREATED)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::LOCATION, format!("/payments/{run}"))
        .body(Body::from(format!(r#"{{"payment":{run}}}"#)))
        .unwrap()
}
