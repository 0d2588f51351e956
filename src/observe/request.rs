//! [`Observed`]: a request with a key, from its claim to its answer.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    thread,
};

use pin_project_lite::pin_project;

use super::{
    Observer,
    outcome::{ABANDONED, Ending, PANICKED},
};
use crate::{Key, future::Client};

pin_project! {
    /// Runs in the span of its request, wherever it is polled: that of a server, or the runtime once the client has left.
    pub(crate) struct Observed<'a, F> {
        #[pin]
        story: F,
        watch: Watch<'a>,
    }
}

/// Sees how a request ends, if only by being dropped.
struct Watch<'a> {
    ended: bool,
    #[cfg(feature = "metrics")]
    observer: &'a Observer,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
    /// Where the span is filtered out: the one around it, which the run has to keep when it goes to the runtime.
    #[cfg(feature = "tracing")]
    outer: Option<tracing::Span>,
    /// Until it has left.
    #[cfg(feature = "tracing")]
    client: Option<&'a Client>,
    #[cfg(not(all(feature = "metrics", feature = "tracing")))]
    _lifetime: std::marker::PhantomData<&'a ()>,
}

impl<'a, F: Future<Output: Ending>> Observed<'a, F> {
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "they are for the span"))]
    pub(super) fn new(observer: &'a Observer, key: Key, client: &'a Client, story: F) -> Self {
        #[cfg(feature = "metrics")]
        observer.figures.first_request();
        #[cfg(feature = "tracing")]
        let span = span(observer, key);
        let watch = Watch {
            ended: false,
            #[cfg(feature = "metrics")]
            observer,
            #[cfg(feature = "tracing")]
            outer: span.is_disabled().then(tracing::Span::current),
            #[cfg(feature = "tracing")]
            span,
            #[cfg(feature = "tracing")]
            client: Some(client),
            #[cfg(not(all(feature = "metrics", feature = "tracing")))]
            _lifetime: std::marker::PhantomData,
        };
        Self { story, watch }
    }
}

#[cfg(feature = "tracing")]
fn span(observer: &Observer, key: Key) -> tracing::Span {
    let namespace = &*observer.namespace;
    tracing::info_span!("idempotency", namespace, ?key, outcome = tracing::field::Empty)
}

impl<F: Future<Output: Ending>> Future for Observed<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        #[cfg(feature = "tracing")]
        let entered = this.watch.outer.as_ref().unwrap_or(&this.watch.span).enter();
        #[cfg(feature = "tracing")]
        if this.watch.client.take_if(|client| client.has_left()).is_some() {
            tracing::debug!("client left: the request goes on in the runtime");
        }
        let ending = ready!(this.story.poll(cx));
        #[cfg(feature = "tracing")]
        drop(entered);
        this.watch.end(ending.word());
        Poll::Ready(ending)
    }
}

impl Watch<'_> {
    fn end(&mut self, outcome: &'static str) {
        self.ended = true;
        #[cfg(feature = "metrics")]
        self.observer.figures.request(outcome);
        #[cfg(feature = "tracing")]
        self.span.record("outcome", outcome).in_scope(|| match outcome {
            "mismatch" | "credentials_differ" => tracing::info!(outcome, "key used for another request"),
            _ => tracing::debug!(outcome, "request answered"),
        });
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(if thread::panicking() { PANICKED } else { ABANDONED });
        }
    }
}
