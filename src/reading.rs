//! Reads as much of a request as its key and its fingerprint need.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::request;
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use crate::{
    Rejection, RequestBody,
    admission::Admission,
    capture::declared_length,
    identity::Identity,
    markers,
    settings::Settings,
    timely::timely,
    whole::{Unread, Whole, next_frame},
};

/// How long a client may take to send the body of its request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A request whose body has been read as far as needed.
pub(crate) enum Read<B> {
    Guard(Identity, Whole),
    /// It has no key after all.
    Pass(RequestBody<B>),
}

/// Reads the body of a request that is not bypassed for its head.
pub(crate) async fn read<B>(
    settings: &Settings,
    admission: Admission,
    parts: &request::Parts,
    body: B,
) -> Result<Read<B>, Rejection>
where
    B: Body<Data = Bytes>,
{
    let limit = settings.request_limit;
    let whole = if matches!(admission, Admission::HashBody) {
        match read_ahead(parts, body, limit).await? {
            Ahead::Whole(whole) => whole,
            Ahead::Part(read, rest) => return Ok(Read::Pass(RequestBody::continued(read, rest))),
        }
    } else {
        read_whole(parts, body, limit).await?
    };
    let admission = match admission {
        Admission::Guard(identity) => Admission::Guard(identity),
        _ => settings.admit(parts, Some(&whole.data)),
    };
    match admission {
        Admission::Guard(identity) => Ok(Read::Guard(identity, whole)),
        Admission::Reject(rejection) => Err(rejection),
        _ => Ok(Read::Pass(RequestBody::whole(whole))),
    }
}

/// Reads all of it. A declared length above the limit is refused before anything is read.
async fn read_whole<B>(parts: &request::Parts, body: B, limit: usize) -> Result<Whole, Rejection>
where
    B: Body<Data = Bytes>,
{
    if is_said_to_exceed(limit, parts, &body) {
        return Err(Rejection::BodyTooLarge);
    }
    let body = pin!(body);
    let read = pin!(Whole::read(body, limit));
    match timely(read, || Instant::now() + BODY_TIMEOUT).await {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(Unread::TooLarge(_))) => Err(Rejection::BodyTooLarge),
        Ok(Err(Unread::Failed(..))) => Err(Rejection::BodyUnreadable),
        Err(_elapsed) => Err(Rejection::BodyTimedOut),
    }
}

/// A body that was read as far as the limits allow.
enum Ahead<B> {
    Whole(Whole),
    Part(Bytes, Pin<Box<B>>),
}

/// Reads all of it, or as much as the limits allow. What was read is not lost.
async fn read_ahead<B>(parts: &request::Parts, body: B, limit: usize) -> Result<Ahead<B>, Rejection>
where
    B: Body<Data = Bytes>,
{
    let exceeds = is_said_to_exceed(limit, parts, &body);
    let (mut body, mut read, mut trailers) = (Box::pin(body), BytesMut::new(), None);
    let deadline = Instant::now() + BODY_TIMEOUT;
    while !body.is_end_stream() {
        if exceeds || read.len() > limit {
            return Ok(Ahead::Part(read.freeze(), body));
        }
        match timeout_at(deadline, next_frame(body.as_mut())).await {
            Err(_elapsed) => return Ok(Ahead::Part(read.freeze(), body)),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Rejection::BodyUnreadable),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => read.extend_from_slice(&data),
                Err(frame) => trailers = markers::trailers(frame),
            },
        }
    }
    let whole = Whole::new(read.freeze(), trailers);
    Ok(if whole.data.len() > limit { Ahead::Part(whole.data, body) } else { Ahead::Whole(whole) })
}

fn is_said_to_exceed<B: Body>(limit: usize, parts: &request::Parts, body: &B) -> bool {
    let limit = limit as u64;
    body.size_hint().lower() > limit || declared_length(&parts.headers).is_some_and(|length| length > limit)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_that_was_read_in_part_is_as_long_as_both_parts() {
        let read = Bytes::from_static(b"read, ");
        let body = RequestBody::continued(read.clone(), Box::pin(Full::from("and the rest")));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(18), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "read, and the rest");

        let mut body = RequestBody::continued(read, Box::pin(Empty::<Bytes>::new()));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(6), false));
        body.frame().await.unwrap().unwrap();
        assert!(body.is_end_stream());
    }
}
