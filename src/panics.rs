//! What becomes of a run that panics.

use std::{
    any::Any,
    future::Future,
    panic,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{Backend, protocol::Lease};

/// What a panic carries.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Runs `future` and returns its panic as an error.
pub(crate) fn catch_panic<F: Future>(future: F) -> CatchPanic<F> {
    CatchPanic { future }
}

pin_project! {
    /// A type of its own, as an `async fn` would keep its argument twice: in its state and where it was passed.
    pub(crate) struct CatchPanic<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        // The future is not touched again after a panic, so nothing half-changed in it can be seen.
        match panic::catch_unwind(panic::AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// Ends a run that has panicked, and lets the panic go on, so that layers outside see it.
pub(crate) async fn unwind<B: Backend>(lease: Lease<B>, client_has_left: bool, panic: Panic) -> ! {
    lease.observer().panicked(&lease.run().key);
    // Once the client has gone nobody asks for another run right now: the key is left to its lease.
    if !client_has_left || lease.keeps_failure().is_some() {
        lease.fail().await;
    }
    panic::resume_unwind(panic)
}
