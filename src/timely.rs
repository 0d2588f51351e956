//! A time limit that costs nothing where nothing has to be waited for.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use tokio::time::{Instant, error::Elapsed, timeout_at};

/// The output of `future`, unless it takes until `limit`.
///
/// What is ready at once, as most bodies and the answers of a local backend are, is returned without reading the clock or
/// making a timer.
pub(crate) async fn timely<F: Future>(
    mut future: Pin<&mut F>,
    limit: impl FnOnce() -> Instant,
) -> Result<F::Output, Elapsed> {
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Ok(output);
    }
    // Boxed: a timer would take more room in the state of a request than everything else here.
    Box::pin(timeout_at(limit(), future)).await
}
