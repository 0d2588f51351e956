//! [`Recorder`]: what a run knows of its layer, so that its handler can store the record itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Response, header};
use http_body::Body;

use crate::{
    Record, ResponseBody, Run,
    capture::{Captured, capture, whole_response},
    error::BoxError,
    markers,
    protocol::Word,
    settings::Settings,
    whole::Whole,
};

/// What a run knows of its layer, so that its handler can store the record that the layer would make.
#[derive(Clone)]
pub(crate) struct Recorder {
    /// `None`: the run is that of a message, which has no response.
    settings: Option<Arc<Settings>>,
    /// How long the record lives.
    retention: Duration,
}

impl Recorder {
    pub(crate) fn new(settings: Option<&Arc<Settings>>, retention: Duration) -> Self {
        Self { settings: settings.cloned(), retention }
    }

    pub(crate) fn retention(&self) -> Duration {
        self.retention
    }
}

impl Run {
    /// The record of `response`, whose body is read for it. `None`: the body fails, or ends too early.
    ///
    /// What the layer would not keep, and what has no known length, leaves a tombstone, and its body is not touched.
    pub(crate) async fn record<B>(&self, response: Response<B>) -> Option<(Record, Response<ResponseBody<B>>)>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let (mut head, body) = response.into_parts();
        markers::strip(&mut head.headers);
        let fingerprint = self.live().fingerprint();
        let withheld = self.live().word() == Some(Word::KeepWithoutBody)
            || self.is_known_by_body() && head.headers.contains_key(header::SET_COOKIE);
        let Some(settings) = self.recorder().settings.as_deref().filter(|_| !withheld) else {
            let response = Response::from_parts(head, ResponseBody::untouched(body));
            return Some((Record::tombstone(&fingerprint), response));
        };
        let record = |whole: &Whole| whole_response(&settings.record, &fingerprint, &head, whole);
        // A response to HEAD has no body, whoever sends it.
        let (record, body) = match capture(&Method::POST, &head, body, settings.response_limit).await {
            Captured::Whole(whole) => (record(&whole), ResponseBody::whole(whole)),
            Captured::HeadOnly(body) => (record(&Whole::default()), ResponseBody::untouched(body)),
            Captured::Unkept(body) | Captured::Stream(body) => {
                (Record::tombstone(&fingerprint), ResponseBody::untouched(body))
            }
            Captured::Broken(_) => return None,
        };
        Some((record, Response::from_parts(head, body)))
    }
}
