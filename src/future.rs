//! [`ResponseFuture`], the future of a request.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;

use crate::{
    ResponseBody,
    sync::{AtomicU8, Ordering},
};

pin_project! {
    /// The future of [`Idempotency`](crate::Idempotency): the response, or the error of the inner service.
    ///
    /// It may be dropped at any time; see [cancel safety](crate#cancel-safety) for what happens to the run.
    ///
    /// # Panics
    ///
    /// When a guarded request is polled outside a tokio runtime with its timer enabled, when it is polled again after
    /// it has returned, and with the panic of a handler that panics.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        kind: Kind<F, B, E>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, B, E> {
        Bypass { #[pin] future: F },
        Rejected { response: Option<Response<ResponseBody<B>>> },
        Guarded { guarded: Guarded<Result<Response<ResponseBody<B>>, E>> },
    }
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) fn bypass(future: F) -> Self {
        Self { kind: Kind::Bypass { future } }
    }

    pub(crate) fn rejected(response: Response<ResponseBody<B>>) -> Self {
        Self { kind: Kind::Rejected { response: Some(response) } }
    }

    pub(crate) fn guarded(guarded: Guarded<Result<Response<ResponseBody<B>>, E>>) -> Self {
        Self { kind: Kind::Guarded { guarded } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Bypass { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::untouched)))
            }
            KindProj::Rejected { response } => {
                Poll::Ready(Ok(response.take().expect("a future is not polled after it has returned")))
            }
            KindProj::Guarded { guarded } => guarded.poll(cx),
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// The boxed future of a guarded request, or of a message. Once it has sent a claim it is not dropped with its owner but
/// moved to the runtime, unless it waits for another run.
pub(crate) struct Guarded<T> {
    future: Option<Story<T>>,
    client: Client,
    /// Finishes the story after its client has left.
    finish: fn(Story<T>),
}

type Story<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T> Guarded<T> {
    pub(crate) fn new<F>(story: impl FnOnce(Client) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
        T: 'static,
    {
        let client = Client::default();
        Self { future: Some(Box::pin(story(client.clone()))), client, finish: finish_on_runtime }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out while it runs: a future that has panicked must not be polled again, not even by the runtime.
        let mut future = self.future.take().expect("a future is not polled after it has returned");
        let output = future.as_mut().poll(cx);
        if output.is_pending() {
            self.future = Some(future);
        }
        output
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        if self.client.leave() {
            (self.finish)(future);
        }
    }
}

fn finish_on_runtime<T: 'static>(story: Story<T>) {
    // Without a runtime the run ends here, and its lease ends the claim.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move { drop(story.await) });
    }
}

/// What a guarded request and the client that waits for it know of each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client(Arc<AtomicU8>);

const DETACHABLE: u8 = 1;
const LEFT: u8 = 2;

impl Client {
    /// From now on the request goes on without its client.
    pub(crate) fn may_leave(&self) {
        self.0.fetch_or(DETACHABLE, Ordering::AcqRel);
    }

    /// From now on the request ends when its client leaves: it has changed nothing and holds nothing.
    pub(crate) fn takes_request_along(&self) {
        self.0.fetch_and(!DETACHABLE, Ordering::AcqRel);
    }

    /// Whether the client has left while the request goes on.
    pub(crate) fn has_left(&self) -> bool {
        self.0.load(Ordering::Acquire) & LEFT != 0
    }

    /// The client leaves. Returns whether the request goes on.
    fn leave(&self) -> bool {
        self.0.fetch_or(LEFT, Ordering::AcqRel) & DETACHABLE != 0
    }
}
