//! The way of a guarded request, from top to bottom:
//! key -> fingerprint -> claim -> run -> record -> respond.

use std::{any::Any, future::Future, panic, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header, request, response};
use http_body::Body;
use tokio::time::timeout;
use tower_service::Service;

use crate::{
    Backend, Fingerprint, Record, Rejection, RequestBody, ResponseBody, Run,
    body::{Unread, Whole},
    codec::Content,
    future::Client,
    header_key::KeyText,
    layer::Shared,
    policy,
    protocol::{Completion, Lease, Refusal},
};

/// How long a client may take to send the body of its request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Tells the story of one guarded request. Every early return gives the readiness of `inner` back.
pub(crate) async fn guarded<B, S, ReqBody, ResBody>(
    shared: Arc<Shared<B>>,
    mut inner: S,
    text: KeyText,
    mut parts: request::Parts,
    body: ReqBody,
    client: Client,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    B: Backend,
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    let body = match read_request(&parts, body, shared.settings.request_limit).await {
        Ok(body) => body,
        Err(rejection) => return Ok(rejection.response()),
    };
    let fingerprint = Fingerprint::of_request(&parts, &body.data);

    client.may_leave();
    let lease = match shared.protocol.claim(shared.settings.key(&text), fingerprint).await {
        Ok(lease) => lease,
        Err(refusal) => return Ok(answer(refusal)),
    };

    policy::strip_markers(&mut parts.headers);
    parts.extensions.insert(Run::new(text, Arc::clone(lease.held())));
    let method = parts.method.clone();
    let request = Request::from_parts(parts, RequestBody::whole(body));

    match catch_panic(async { inner.call(request).await }).await {
        Ok(Ok(response)) => Ok(conclude(&shared, lease, fingerprint, &method, response).await),
        Ok(Err(error)) => {
            lease.fail().await;
            Err(error)
        }
        Err(panic) => {
            // Once the client has gone nobody asks for a second run: the lease is left to end by itself.
            if !client.has_left() || shared.protocol.terms().at_most_once {
                lease.fail().await;
            }
            panic::resume_unwind(panic)
        }
    }
}

/// Reads the body of a request. A declared length above the limit is refused before anything is read.
async fn read_request<B>(parts: &request::Parts, body: B, limit: usize) -> Result<Whole, Rejection>
where
    B: Body<Data = Bytes>,
{
    if body.size_hint().lower() > limit as u64 || declared_length(&parts.headers).is_some_and(|len| len > limit as u64)
    {
        return Err(Rejection::BodyTooLarge);
    }
    match timeout(BODY_TIMEOUT, Whole::read(pin!(body), limit)).await {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(Unread::TooLarge(_))) => Err(Rejection::BodyTooLarge),
        Ok(Err(Unread::Failed(..))) => Err(Rejection::BodyUnreadable),
        Err(_elapsed) => Err(Rejection::BodyTimedOut),
    }
}

/// The answer to a request that does not run.
fn answer<ResBody: Body>(refusal: Refusal) -> Response<ResponseBody<ResBody>> {
    match refusal {
        Refusal::Replay(record) => replay(&record),
        Refusal::InProgress => Rejection::InProgress.response(),
        Refusal::Mismatch => Rejection::Mismatch.response(),
        Refusal::CredentialsDiffer => Rejection::CredentialsDiffer.response(),
        Refusal::Unavailable(error) => {
            let mut response = Rejection::BackendUnavailable.response();
            response.extensions_mut().insert(Arc::new(error));
            response
        }
    }
}

/// The first response, once more.
fn replay<ResBody: Body>(record: &Record) -> Response<ResponseBody<ResBody>> {
    match record.content() {
        Ok(Content::Response(recorded)) => {
            let mut response = Response::new(ResponseBody::whole(recorded.body, recorded.trailers));
            *response.status_mut() = recorded.status;
            *response.headers_mut() = recorded.headers;
            policy::mark_replayed(response.headers_mut());
            response
        }
        Ok(Content::OutcomeUnknown) => Rejection::OutcomeUnknown.response(),
        Ok(Content::Tombstone | Content::Value(_)) => Rejection::NotKept.response(),
        Err(_) => Rejection::BackendUnavailable.response(),
    }
}

/// Ends the run: releases its key, or records its response before the client can see the end of it.
async fn conclude<B, ResBody>(
    shared: &Shared<B>,
    lease: Lease<B>,
    fingerprint: Fingerprint,
    method: &Method,
    response: Response<ResBody>,
) -> Response<ResponseBody<ResBody>>
where
    B: Backend,
    ResBody: Body<Data = Bytes>,
{
    let (mut parts, body) = response.into_parts();
    policy::strip_markers(&mut parts.headers);
    if releases(shared, &parts) {
        lease.release().await;
        return Response::from_parts(parts, ResponseBody::untouched(body));
    }
    let (record, body) = match capture(method, &parts, body, shared.settings.response_limit).await {
        Captured::Whole(whole) => {
            (whole_response(&fingerprint, &parts, &whole), ResponseBody::whole(whole.data, whole.trailers))
        }
        Captured::HeadOnly(body) => {
            (whole_response(&fingerprint, &parts, &Whole::default()), ResponseBody::untouched(body))
        }
        Captured::Unkept(body) => (Record::tombstone(&fingerprint), ResponseBody::untouched(body)),
        Captured::Broken(body) => {
            lease.fail().await;
            return Response::from_parts(parts, body);
        }
    };
    match lease.complete(record).await {
        Completion::Stored => Response::from_parts(parts, body),
        Completion::Unanswered => {
            policy::mark_not_stored(&mut parts.headers);
            Response::from_parts(parts, body)
        }
        Completion::Superseded(record) => replay(&record),
        Completion::Lost => Rejection::InProgress.response(),
    }
}

/// Whether the run counts as not having happened. What another idempotency layer refused has not.
fn releases<B: Backend>(shared: &Shared<B>, parts: &response::Parts) -> bool {
    let refused = parts.extensions.get::<Rejection>().is_some();
    refused || (policy::releases(parts.status) && !shared.protocol.terms().at_most_once)
}

/// What can be recorded of a response.
enum Captured<B: Body> {
    /// All of it; its body has been read.
    Whole(Whole),
    /// All of it; there is no body, whatever the inner service gave.
    HeadOnly(B),
    /// Nothing: its length is unknown, or above the limit. Its body has not been touched.
    Unkept(B),
    /// Nothing: its body failed or ended too early, and does so again for the client.
    Broken(ResponseBody<B>),
}

async fn capture<B>(method: &Method, parts: &response::Parts, body: B, limit: usize) -> Captured<B>
where
    B: Body<Data = Bytes>,
{
    if *method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Captured::HeadOnly(body);
    }
    let Some(length) = known_length(parts, &body).filter(|&length| length <= limit) else {
        return Captured::Unkept(body);
    };
    match Whole::read(pin!(body), length).await {
        // A body that goes on past its own length is cut there, as hyper does.
        Ok(whole) | Err(Unread::TooLarge(whole)) if whole.data.len() == length => Captured::Whole(whole),
        Ok(whole) | Err(Unread::TooLarge(whole)) => Captured::Broken(ResponseBody::broken(whole, None)),
        Err(Unread::Failed(whole, error)) => Captured::Broken(ResponseBody::broken(whole, Some(error))),
    }
}

/// The length of a response's body, if it is known before the body is read, and nobody contradicts it.
fn known_length<B: Body>(parts: &response::Parts, body: &B) -> Option<usize> {
    if parts.status.is_informational() {
        return None; // the connection is about to become something else
    }
    let length = match (body.size_hint().exact(), parts.headers.contains_key(header::CONTENT_LENGTH)) {
        (exact, false) => exact,
        (exact, true) => declared_length(&parts.headers).filter(|&declared| exact.is_none_or(|len| len == declared)),
    };
    usize::try_from(length?).ok()
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn whole_response(fingerprint: &Fingerprint, parts: &response::Parts, whole: &Whole) -> Record {
    let keeps = |name: &HeaderName| policy::keeps(&parts.headers, name);
    Record::response(fingerprint, parts, keeps, &whole.data, whole.trailers.as_ref())
        .unwrap_or_else(|| Record::tombstone(fingerprint))
}

/// Runs `future` and returns its panic as an error.
async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| {
        // The future is not touched again after a panic, so nothing half-changed in it can be seen.
        let poll = panic::AssertUnwindSafe(|| future.as_mut().poll(cx));
        match panic::catch_unwind(poll) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}
