//! [`InnerService`]: a handler that a test watches, holds and scripts.

mod probe;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use crate::error::BoxError;

pub use self::probe::{Counts, Probe, Reaction};

type Answer<R> = dyn Fn(Parts, Bytes) -> Response<R> + Send + Sync;

/// The innermost service of a test: it reads the request, waits at a gate when the test holds it, and answers.
///
/// What it is told and what it counts goes through its [`Probe`]. It keeps to tower's contract strictly: each instance
/// must have answered [`poll_ready`](Service::poll_ready) with `Ready` before each call. A clone is another instance,
/// not ready yet, so a middleware that clones and then calls the clone panics here as it does in front of a
/// `ConcurrencyLimit`.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower_idempotency::testing::InnerService;
/// use tower_service::Service;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut inner = InnerService::answering(|parts, _body| Response::new(parts.uri.to_string()));
/// let probe = inner.probe();
/// probe.hold();
///
/// std::future::poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(&mut inner, cx)).await.unwrap();
/// let running = tokio::spawn(inner.call(Request::new(Full::<Bytes>::default())));
/// probe.arrived(1).await;
/// assert_eq!(probe.counts().finished, 0);
/// probe.open_all();
/// assert_eq!(running.await.unwrap().unwrap().body(), "/");
/// # }
/// ```
pub struct InnerService<R = Full<Bytes>> {
    answer: Arc<Answer<R>>,
    probe: Probe,
    /// Whether this instance may be called.
    ready: bool,
}

impl InnerService {
    /// A service that answers 200, and in the body the number of the run, counted from 1.
    #[must_use]
    pub fn new() -> Self {
        let runs = AtomicUsize::new(0);
        Self::answering(move |_, _| Response::new(Full::from((1 + runs.fetch_add(1, Ordering::Relaxed)).to_string())))
    }
}

impl Default for InnerService {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> InnerService<R> {
    /// A service that answers what `answer` returns.
    pub fn answering(answer: impl Fn(Parts, Bytes) -> Response<R> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), probe: Probe::default(), ready: false }
    }

    /// What watches and steers this service and all its clones.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }
}

impl<R> Clone for InnerService<R> {
    fn clone(&self) -> Self {
        self.probe.count(|counts| counts.clones += 1);
        Self { answer: Arc::clone(&self.answer), probe: self.probe.clone(), ready: false }
    }
}

impl<R> Drop for InnerService<R> {
    fn drop(&mut self) {
        if self.ready {
            self.probe.count(|counts| counts.ready -= 1);
        }
    }
}

impl<R> fmt::Debug for InnerService<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InnerService").field("ready", &self.ready).field("probe", &self.probe).finish_non_exhaustive()
    }
}

impl<B, R> Service<Request<B>> for InnerService<R>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: 'static,
{
    type Response = Response<R>;
    type Error = InnerError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, InnerError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), InnerError>> {
        if !self.ready && self.probe.poll_open(cx).is_pending() {
            return Poll::Pending;
        }
        if !self.ready {
            self.ready = true;
            self.probe.count(|counts| counts.ready += 1);
        }
        Poll::Ready(Ok(()))
    }

    /// # Panics
    ///
    /// When this instance is not ready. The future panics when [`Reaction::Panic`] is its turn.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let reaction = self.probe.enter(self.ready);
        self.ready = false;
        let mut running = self.probe.running();
        let (probe, answer) = (self.probe.clone(), Arc::clone(&self.answer));
        Box::pin(async move {
            running.start();
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| InnerError(Some(error.into())));
            probe.pass_gate().await;
            let result = match (reaction, body) {
                (Reaction::Panic, _) => panic!("InnerService was told to panic"),
                (Reaction::Fail, _) => Err(InnerError(None)),
                (Reaction::Answer, body) => body.map(|body| {
                    probe.count(|counts| counts.answers += 1);
                    answer(parts, body.to_bytes())
                }),
            };
            running.finish();
            result
        })
    }
}

/// [`InnerService`] was told to fail, or could not read the request.
#[derive(Debug)]
pub struct InnerError(Option<BoxError>);

impl fmt::Display for InnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "the inner service could not read the request body"
        } else {
            "the inner service was told to fail"
        })
    }
}

impl Error for InnerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_deref().map(|source| source as _)
    }
}
