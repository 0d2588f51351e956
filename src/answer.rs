//! What a request gets that does not run: the layer's own answers, as the service wants them worded, and replays.

use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, Response};
use http_body::Body;

use crate::{
    Outcome, Record, Rejection, ResponseBody, codec::Content, markers, protocol::Refusal, rejection::Dialect,
    settings::Settings, whole::Whole,
};

/// Makes the answer that is sent from the answer that the layer would give.
pub(crate) type Wording = dyn Fn(Rejection, Response<Bytes>) -> Response<Bytes> + Send + Sync;

impl Settings {
    /// Words `response` anew if it is the layer's own answer, and leaves it alone otherwise. What a layer further in
    /// has refused is its own: its body has not been read here.
    pub(crate) fn worded<B: Body>(&self, response: Response<ResponseBody<B>>) -> Response<ResponseBody<B>> {
        let Some(wording) = &self.on_rejection else { return response };
        let Some(&rejection) = response.extensions().get::<Rejection>() else { return response };
        let Some(document) = response.body().as_whole() else { return response };
        // What layers outside look for, also where the service makes another response.
        let extensions = response.extensions().clone();
        let mut answer = wording(rejection, response.map(|_| document));
        answer.extensions_mut().extend(extensions);
        answer.map(|body| ResponseBody::whole(Whole::new(body, None)))
    }
}

/// The answer to a request that does not run. `room` are empty extensions to be its own.
pub(crate) fn answer<ResBody>(refusal: Refusal, dialect: Dialect, room: Extensions) -> Response<ResponseBody<ResBody>> {
    match refusal {
        Refusal::Replay(record) => replay(&record, dialect, room),
        Refusal::InProgress => Rejection::InProgress.response(dialect),
        Refusal::Mismatch => Rejection::Mismatch.response(dialect),
        Refusal::CredentialsDiffer => Rejection::CredentialsDiffer.response(dialect),
        Refusal::Unavailable(error) => {
            let mut response = Rejection::BackendUnavailable.response(dialect);
            response.extensions_mut().insert(Arc::new(error));
            response
        }
    }
}

/// The first response, once more.
pub(crate) fn replay<ResBody>(record: &Record, dialect: Dialect, room: Extensions) -> Response<ResponseBody<ResBody>> {
    match record.content() {
        Ok(Content::Response(recorded)) => {
            let mut response = Response::new(ResponseBody::whole(Whole::new(recorded.body, recorded.trailers)));
            *response.status_mut() = recorded.status;
            *response.headers_mut() = recorded.headers;
            *response.extensions_mut() = room;
            markers::mark_replayed(response.headers_mut());
            response.extensions_mut().insert(Outcome::Replayed);
            response
        }
        Ok(Content::OutcomeUnknown) => Rejection::OutcomeUnknown.response(dialect),
        Ok(Content::Tombstone | Content::Value(_)) => Rejection::NotKept.response(dialect),
        Err(_) => Rejection::BackendUnavailable.response(dialect),
    }
}
