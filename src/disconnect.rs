//! [`OnDisconnect`]: what happens to a run whose client leaves.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::future::Client;

/// What happens to a run whose client disconnects before the handler has responded.
///
/// If the client disconnects later, nothing changes: the rest of the response is read and recorded, within the limits.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use tower_idempotency::{IdempotencyLayer, MemoryBackend, OnDisconnect};
///
/// // The handler's one effect is a transaction, which is rolled back when it is dropped.
/// let layer = IdempotencyLayer::new(MemoryBackend::new()).on_disconnect(OnDisconnect::Cancel);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// It continues and is recorded: a client that disconnects neither stops nor loses a run.
    #[default]
    Finish,
    /// Its handler is dropped at its current await, and the key released, so that the next request runs.
    ///
    /// The handler may have had effects by then, which the next attempt repeats. Use this only for handlers that undo
    /// their work when they are dropped, such as one whose only effect is a database transaction. If the handler has
    /// called [`keep`](crate::Run::keep), or with [`at_most_once`](crate::IdempotencyLayer::at_most_once), the key is
    /// kept instead, with an unknown outcome.
    Cancel,
}

impl OnDisconnect {
    /// Runs `handler`. `None`: its client has left, and it has been dropped, or was not called.
    pub(crate) fn run<F: Future>(self, client: &Client, handler: impl FnOnce() -> F) -> Attended<'_, F> {
        let cancels = self == Self::Cancel;
        Attended { cancels, client, handler: (!cancels || !client.has_left()).then(handler) }
    }
}

pin_project! {
    /// A handler and the client that it runs for.
    pub(crate) struct Attended<'a, F> {
        cancels: bool,
        client: &'a Client,
        #[pin]
        handler: Option<F>,
    }
}

impl<F: Future> Future for Attended<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Nobody has to wake this: a client that leaves moves the request to the runtime, which polls it again.
        if *this.cancels && this.client.has_left() {
            return Poll::Ready(None);
        }
        this.handler.as_pin_mut().map_or(Poll::Ready(None), |handler| handler.poll(cx).map(Some))
    }
}
