//! [`Whole`]: a body that has been read to its end.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::task::coop::consume_budget;

use crate::markers;

/// A body that has been read to its end. It is a body itself: one data frame if there is data, then the trailers if any.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) data: Bytes,
    /// Boxed: they are rare, and a body is moved often.
    trailers: Option<Box<HeaderMap>>,
}

/// Why a body was not read to its end, with what was read until then, up to the limit.
#[derive(Debug)]
pub(crate) enum Unread<E> {
    TooLarge(Whole),
    Failed(Whole, E),
}

/// The next frame of `body` that is not empty: no limit counts those that are. Between them this pauses now and then, so
/// that a body that always has one keeps its thread from nobody, and time-outs take effect.
pub(crate) async fn next_frame<B>(mut body: Pin<&mut B>) -> Option<Result<Frame<Bytes>, B::Error>>
where
    B: Body<Data = Bytes>,
{
    loop {
        let frame = body.frame().await;
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        if !data.is_some_and(Bytes::is_empty) {
            return frame;
        }
        consume_budget().await;
    }
}

impl Whole {
    pub(crate) fn new(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { data, trailers: trailers.map(Box::new) }
    }

    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
    }

    /// Reads `body` to its end, which may not come after more than `limit` bytes.
    ///
    /// The data of a body of one frame is not copied.
    pub(crate) async fn read<B>(mut body: Pin<&mut B>, limit: usize) -> Result<Self, Unread<B::Error>>
    where
        B: Body<Data = Bytes>,
    {
        let mut whole = Self::default();
        let mut joined = BytesMut::new();
        while !body.is_end_stream() {
            match next_frame(body.as_mut()).await {
                None => break,
                Some(Err(error)) => return Err(Unread::Failed(whole.join(&joined), error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let room = limit - whole.data.len() - joined.len();
                        if data.len() > room {
                            joined.extend_from_slice(&data[..room]);
                            return Err(Unread::TooLarge(whole.join(&joined)));
                        } else if whole.data.is_empty() {
                            whole.data = data;
                        } else {
                            joined.extend_from_slice(&data);
                        }
                    }
                    Err(frame) => whole.trailers = markers::trailers(frame).map(Box::new),
                },
            }
        }
        Ok(whole.join(&joined))
    }

    /// Appends what came after the first frame.
    fn join(mut self, further: &[u8]) -> Self {
        if !further.is_empty() {
            let mut data = BytesMut::with_capacity(self.data.len() + further.len());
            data.extend_from_slice(&self.data);
            data.extend_from_slice(further);
            self.data = data.freeze();
        }
        self
    }

    pub(crate) fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if self.data.is_empty() {
            self.trailers.take().map(|trailers| Frame::trailers(*trailers))
        } else {
            Some(Frame::data(std::mem::take(&mut self.data)))
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    /// Not exact where trailers follow: over HTTP/1.1 they need chunks, and a server that knows the length sends none.
    pub(crate) fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::with_exact(self.data.len() as u64);
        if self.trailers.is_some() {
            hint = SizeHint::new();
            hint.set_lower(self.data.len() as u64);
        }
        hint
    }
}
