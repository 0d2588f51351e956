//! The bodies that the layer hands on: [`RequestBody`] inwards, [`ResponseBody`] outwards.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{error::BoxError, outlet::Outlet, whole::Whole};

pin_project! {
    /// The body of a request as the inner service gets it: untouched, or read whole by the layer.
    ///
    /// Read whole, it is one frame of data and the trailers, if any; without those its length is exact. One that is too
    /// long for a [`BodyHash`](crate::BodyHash) is what was read, and then the rest.
    ///
    /// Its errors are those of the client's body. Where a layer inside takes no such body, see [where to put the
    /// layer](crate#where-to-put-the-layer).
    pub struct RequestBody<B> {
        #[pin]
        kind: RequestKind<B>,
    }
}

pin_project! {
    #[project = RequestKindProj]
    enum RequestKind<B> {
        Untouched { #[pin] body: B },
        Whole { whole: Whole },
        Continued { read: Bytes, rest: Pin<Box<B>> },
    }
}

pin_project! {
    /// The body of a response as the client gets it: the inner service's, or one that the layer has read or made.
    ///
    /// Its errors are those of the inner body, boxed. A response of unknown length whose run lost its key while it was
    /// being sent ends with an error too, as does one whose body panicked.
    pub struct ResponseBody<B> {
        #[pin]
        kind: ResponseKind<B>,
    }
}

pin_project! {
    #[project = ResponseKindProj]
    enum ResponseKind<B> {
        Untouched { #[pin] body: B },
        Whole { whole: Whole },
        Broken { whole: Whole, error: Option<BoxError> },
        Recorded { outlet: Outlet<B> },
    }
}

impl<B> RequestBody<B> {
    pub(crate) fn untouched(body: B) -> Self {
        Self { kind: RequestKind::Untouched { body } }
    }

    pub(crate) fn whole(whole: Whole) -> Self {
        Self { kind: RequestKind::Whole { whole } }
    }

    /// What was read of a body, and then the rest of it.
    pub(crate) fn continued(read: Bytes, rest: Pin<Box<B>>) -> Self {
        Self { kind: RequestKind::Continued { read, rest } }
    }
}

/// The size of a body with so many bytes before it.
fn longer(rest: &SizeHint, before: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower() + before);
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper + before);
    }
    hint
}

impl<B> ResponseBody<B> {
    pub(crate) fn untouched(body: B) -> Self {
        Self { kind: ResponseKind::Untouched { body } }
    }

    pub(crate) fn whole(whole: Whole) -> Self {
        Self { kind: ResponseKind::Whole { whole } }
    }

    /// The data of a body that the layer has read or made.
    pub(crate) fn as_whole(&self) -> Option<Bytes> {
        match &self.kind {
            ResponseKind::Whole { whole } => Some(whole.data.clone()),
            _ => None,
        }
    }

    /// What was read of a body before it failed, and then its failure, or its early end.
    pub(crate) fn broken(whole: Whole, error: Option<BoxError>) -> Self {
        Self { kind: ResponseKind::Broken { whole, error } }
    }

    /// What is recorded while it is sent.
    pub(crate) fn recorded(outlet: Outlet<B>) -> Self {
        Self { kind: ResponseKind::Recorded { outlet } }
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().kind.project() {
            RequestKindProj::Untouched { body } => body.poll_frame(cx),
            RequestKindProj::Whole { whole } => Poll::Ready(whole.next_frame().map(Ok)),
            RequestKindProj::Continued { read, rest } if read.is_empty() => rest.as_mut().poll_frame(cx),
            RequestKindProj::Continued { read, .. } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(read))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            RequestKind::Untouched { body } => body.is_end_stream(),
            RequestKind::Whole { whole } => whole.is_end_stream(),
            RequestKind::Continued { read, rest } => read.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            RequestKind::Untouched { body } => body.size_hint(),
            RequestKind::Whole { whole } => whole.size_hint(),
            RequestKind::Continued { read, rest } => longer(&rest.size_hint(), read.len() as u64),
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().kind.project() {
            ResponseKindProj::Untouched { body } => body.poll_frame(cx).map_err(Into::into),
            ResponseKindProj::Recorded { outlet } => outlet.poll_frame(cx),
            ResponseKindProj::Whole { whole } => Poll::Ready(whole.next_frame().map(Ok)),
            ResponseKindProj::Broken { whole, error } => {
                Poll::Ready(whole.next_frame().map(Ok).or_else(|| error.take().map(Err)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            ResponseKind::Untouched { body } => body.is_end_stream(),
            ResponseKind::Whole { whole } => whole.is_end_stream(),
            ResponseKind::Recorded { outlet } => outlet.is_end_stream(),
            // Only by polling it can a server tell that it ends too early.
            ResponseKind::Broken { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            ResponseKind::Untouched { body } => body.size_hint(),
            ResponseKind::Whole { whole } => whole.size_hint(),
            // Not the length of what was read: a server that trusts it would keep the connection open, and the client
            // take the next response for the missing bytes.
            ResponseKind::Broken { .. } | ResponseKind::Recorded { .. } => SizeHint::default(),
        }
    }
}

/// For layers outside that make an empty response, such as time-outs.
impl<B: Default> Default for RequestBody<B> {
    fn default() -> Self {
        Self::untouched(B::default())
    }
}

/// For layers outside that make an empty response, such as time-outs.
impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::untouched(B::default())
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
