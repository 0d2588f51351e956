//! A response of unknown length, on its way to its client and into its record at the same time.
//!
//! The run drives the body, not the server, so that a client that reads slowly, or not at all, does not keep the response
//! from being recorded. Frames go out as they are produced; only the *end* waits until the record is durable.

use std::{pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, response::Parts};
use http_body::{Body, Frame};
use tokio::time::{Instant, timeout_at};

use crate::{
    Backend, Record,
    capture::whole_response,
    error::BoxError,
    inlet::{Inlet, Piece},
    layer::Shared,
    markers,
    observe::in_span,
    outlet::{Outlet, outlet},
    panics::{catch_panic, unwind},
    protocol::{Completion, Lease, Word},
    whole::{Whole, next_frame},
};

/// The run's end of a recorded response.
pub(crate) struct Recording<B: Backend> {
    pub(crate) shared: Arc<Shared<B>>,
    pub(crate) lease: Lease<B>,
    pub(crate) head: Parts,
}

impl<B: Backend> Recording<B> {
    /// Begins to read `body` in a task of its own.
    pub(crate) fn start<R>(self, body: R) -> Outlet<R>
    where
        R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        let (inlet, outlet) = outlet();
        tokio::spawn(in_span(self.run(Box::pin(body), inlet)));
        outlet
    }

    /// A client that has left does not end this.
    async fn run<R>(self, mut body: Pin<Box<R>>, inlet: Inlet<R>)
    where
        R: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let until = Instant::now() + self.shared.protocol.terms().max_run;
        let limit = self.shared.settings.response_limit;
        let mut copy = BytesMut::new();
        let mut trailers = None;
        loop {
            let frame = match catch_panic(|| timeout_at(until, next_frame(body.as_mut()))).await {
                Ok(Ok(frame)) => frame,
                Ok(Err(_elapsed)) => break,
                // Ends the task and drops the inlet: the client gets an error.
                Err(panic) => unwind(self.lease, inlet.client_has_left(), panic).await,
            };
            let Some(frame) = frame else { return self.end(copy.freeze(), trailers, &inlet).await };
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    let fits = copy.len() + data.len() <= limit;
                    if fits {
                        copy.extend_from_slice(&data);
                    }
                    inlet.send(Piece::Data(data));
                    if !fits {
                        break;
                    }
                }
                Ok(Err(frame)) => trailers = markers::trailers(frame),
                Err(error) => return self.fail(error.into(), &inlet).await,
            }
        }
        drop(copy);
        self.give_up(body, &inlet).await;
    }

    /// The response is complete: its client may see the end as soon as the record is durable.
    async fn end<R>(self, data: Bytes, mut trailers: Option<HeaderMap>, inlet: &Inlet<R>) {
        let fingerprint = self.lease.fingerprint();
        if self.shared.releases_at_end(&self.lease, &self.head, trailers.as_ref()) {
            self.lease.release().await;
        } else {
            let record = match self.lease.run().word() {
                Some(Word::KeepWithoutBody) => Record::tombstone(&fingerprint),
                _ => {
                    let whole = Whole::new(data, trailers.clone());
                    whole_response(&self.shared.settings.record, &fingerprint, &self.head, &whole)
                }
            };
            match self.lease.complete(record).await {
                Completion::Stored => {}
                Completion::Unanswered => markers::mark_not_stored(trailers.get_or_insert_default()),
                Completion::Superseded(_) | Completion::Lost => {
                    inlet.send(Piece::interrupted());
                    return;
                }
            }
        }
        if let Some(trailers) = trailers {
            inlet.send(Piece::Trailers(trailers));
        }
        inlet.send(Piece::End);
    }

    /// The response has failed before its end, so there is nothing to record.
    async fn fail<R>(self, error: BoxError, inlet: &Inlet<R>) {
        self.lease.fail().await;
        inlet.send(Piece::Failed(error));
    }

    /// The response is too long to record: a tombstone is recorded instead, and the rest is sent at its client's pace. If
    /// the client has left, the body is dropped.
    async fn give_up<R>(self, body: Pin<Box<R>>, inlet: &Inlet<R>) {
        let tombstone = Record::tombstone(&self.lease.fingerprint());
        match self.lease.complete(tombstone).await {
            Completion::Stored => inlet.send(Piece::rest(body, false)),
            Completion::Unanswered => inlet.send(Piece::rest(body, true)),
            Completion::Superseded(_) | Completion::Lost => inlet.send(Piece::interrupted()),
        };
    }
}
