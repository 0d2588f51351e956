//! What becomes of a run that panics.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic,
    pin::pin,
    task::Poll,
};

use crate::{Backend, protocol::Lease};

/// What a panic carries.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Runs `future` and returns its panic as an error.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    poll_fn(move |cx| {
        // The future is not touched again after a panic, so nothing half-changed in it can be seen.
        let poll = panic::AssertUnwindSafe(|| future.as_mut().poll(cx));
        match panic::catch_unwind(poll) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
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
