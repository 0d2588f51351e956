//! The layer's own answers, as the service wants them worded.

use bytes::Bytes;
use http::Response;
use http_body::Body;

use crate::{Rejection, ResponseBody, settings::Settings};

/// Makes the answer that is sent from the answer that the layer would give.
pub(crate) type Wording = dyn Fn(Rejection, Response<Bytes>) -> Response<Bytes> + Send + Sync;

impl Settings {
    /// Words `response` anew if it is the layer's own answer, and leaves it alone otherwise. What a layer further in
    /// has refused is its own: its body has not been read here.
    pub(crate) fn worded<B: Body>(&self, response: Response<ResponseBody<B>>) -> Response<ResponseBody<B>> {
        let Some(wording) = &self.on_rejection else { return response };
        let Some(&rejection) = response.extensions().get::<Rejection>() else { return response };
        let Some(document) = response.body().as_whole() else { return response };
        let mut answer = wording(rejection, response.map(|_| document));
        answer.extensions_mut().insert(rejection);
        answer.map(|body| ResponseBody::whole(body, None))
    }
}
