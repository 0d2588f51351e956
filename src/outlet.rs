//! [`Outlet`]: the client's end of a response that is recorded while it is sent.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{error::BoxError, policy};

/// What the run hands to its client.
pub(crate) enum Piece<B> {
    Frame(Frame<Bytes>),
    /// Nothing more is recorded: the client drives the body from here on.
    Rest(Rest<B>),
    Failed(BoxError),
    End,
}

/// The client's end: a body.
pub(crate) struct Outlet<B> {
    pieces: UnboundedReceiver<Piece<B>>,
    rest: Option<Rest<B>>,
    ended: bool,
}

/// What is left of a body that is not recorded.
pub(crate) struct Rest<B> {
    body: Pin<Box<B>>,
    /// The trailers still have to say that not even a tombstone is known to be stored.
    owes_mark: bool,
    /// The body has ended and must not be polled again.
    over: bool,
}

/// Both ends of a response. The channel between them needs no bound of its own: the limit of what is recorded bounds the
/// bytes in it, and no frame in it is empty. A frame takes about 100 bytes beside its data, so that a client that does not
/// read a response of single bytes costs a hundred times the limit.
pub(crate) fn outlet<B>() -> (UnboundedSender<Piece<B>>, Outlet<B>) {
    let (sender, pieces) = unbounded_channel();
    (sender, Outlet { pieces, rest: None, ended: false })
}

impl<B> Piece<B> {
    pub(crate) fn rest(body: Pin<Box<B>>, owes_mark: bool) -> Self {
        Self::Rest(Rest { body, owes_mark, over: false })
    }

    pub(crate) fn interrupted() -> Self {
        Self::Failed(Interrupted.into())
    }
}

impl<B> Outlet<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_none() && !self.ended {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Piece::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Some(Piece::Rest(rest)) => self.rest = Some(rest),
                Some(Piece::Failed(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
                Some(Piece::End) => self.ended = true,
                None => return Poll::Ready(Some(Err(self.fail(Interrupted.into())))),
            }
        }
        match &mut self.rest {
            Some(rest) => rest.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn fail(&mut self, error: BoxError) -> BoxError {
        self.ended = true;
        error
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.rest.as_ref().map_or(self.ended, Rest::is_end_stream)
    }
}

impl<B> Rest<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = ready!(self.body.as_mut().poll_frame(cx)).transpose().map_err(Into::into)?;
        self.over = frame.is_none();
        if frame.as_ref().is_some_and(Frame::is_data) {
            return Poll::Ready(frame.map(Ok));
        }
        let mut trailers = frame.and_then(policy::trailers);
        if mem::take(&mut self.owes_mark) {
            policy::mark_not_stored(trailers.get_or_insert_default());
        }
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        !self.owes_mark && (self.over || self.body.is_end_stream())
    }
}

/// A response cannot be finished: another run of the same request may have answered differently by now.
#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run behind this response has lost its idempotency key")
    }
}

impl std::error::Error for Interrupted {}
