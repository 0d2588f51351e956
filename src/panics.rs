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

/// Runs the future that `start` makes, and returns a panic of either as an error.
pub(crate) fn catch_panic<F: Future>(start: impl FnOnce() -> F) -> CatchPanic<F> {
    // What `start` has captured is not used again after a panic, so no half-changed value can be seen.
    match panic::catch_unwind(panic::AssertUnwindSafe(start)) {
        Ok(future) => CatchPanic::Begun { future },
        Err(panic) => CatchPanic::Failed { panic: Some(panic) },
    }
}

pin_project! {
    #[project = CatchPanicProj]
    pub(crate) enum CatchPanic<F> {
        Begun { #[pin] future: F },
        Failed { panic: Option<Panic> },
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            // Neither is the future.
            CatchPanicProj::Begun { future } => {
                match panic::catch_unwind(panic::AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(poll) => poll.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            }
            CatchPanicProj::Failed { panic } => panic.take().map_or(Poll::Pending, |panic| Poll::Ready(Err(panic))),
        }
    }
}

/// Ends a run that has panicked, and resumes the panic, so that layers outside see it.
pub(crate) async fn unwind<B: Backend>(lease: Lease<B>, client_has_left: bool, panic: Panic) -> ! {
    lease.observer().panicked(&lease.run().key);
    // With the client gone nobody asks for another run right now: the key is left to its lease.
    if !client_has_left || lease.keeps_failure().is_some() {
        lease.fail().await;
    }
    panic::resume_unwind(panic)
}
