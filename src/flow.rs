//! The way of a guarded request, from top to bottom:
//! key -> fingerprint -> claim -> run -> record -> respond.

use std::{any::Any, future::Future, panic, pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use http::{Method, Request, Response, header, request, response};
use http_body::Body;
use tower_service::Service;

use crate::{
    Backend, Fingerprint, Record, Rejection, RequestBody, ResponseBody, Run,
    admission::Admission,
    body::Whole,
    capture::{Captured, capture, whole_response},
    codec::Content,
    future::Client,
    layer::Shared,
    policy,
    protocol::{Completion, Lease, Refusal},
    reading::{Read, read},
    unprotected::{pass, unprotected, untouched},
};

/// Tells the story of one guarded request. Every early return gives the readiness of `inner` back.
pub(crate) async fn guarded<B, S, ReqBody, ResBody>(
    shared: Arc<Shared<B>>,
    mut inner: S,
    admission: Admission,
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
    let (identity, body) = match read(&shared.settings, admission, &parts, body).await {
        Ok(Read::Guard(identity, body)) => (identity, body),
        Ok(Read::Pass(body)) => return pass(inner, parts, body).await,
        Err(rejection) => return Ok(rejection.response()),
    };
    let fingerprint = shared.settings.fingerprint(&identity, &parts, &body.data);

    client.may_leave();
    let lease = match shared.protocol.claim(identity.key(&shared.settings.namespace), fingerprint).await {
        Ok(lease) => lease.keep_for(identity.window),
        Err(Refusal::Unavailable(error)) if shared.settings.runs_unprotected(&identity, &error) => {
            return unprotected(inner, parts, body).await;
        }
        Err(refusal) => return Ok(answer(refusal)),
    };

    policy::strip_markers(&mut parts.headers);
    let hashed = identity.window.is_some();
    parts.extensions.insert(Run::new(identity.text, Arc::clone(lease.run())));
    let method = parts.method.clone();
    let request = Request::from_parts(parts, RequestBody::whole(body));

    match catch_panic(async { inner.call(request).await }).await {
        Ok(Ok(response)) if hashed && response.headers().contains_key(header::SET_COOKIE) => {
            lease.release().await;
            Ok(untouched(response))
        }
        Ok(Ok(response)) => Ok(conclude(&shared, lease, &client, fingerprint, &method, response).await),
        Ok(Err(error)) => {
            lease.fail().await;
            Err(error)
        }
        Err(panic) => unwind(lease, &client, panic).await,
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
    client: &Client,
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
    let (record, body) = match catch_panic(capture(method, &parts, body, shared.settings.response_limit)).await {
        Ok(Captured::Whole(whole)) => (
            whole_response(&shared.settings.record, &fingerprint, &parts, &whole),
            ResponseBody::whole(whole.data, whole.trailers),
        ),
        Ok(Captured::HeadOnly(body)) => (
            whole_response(&shared.settings.record, &fingerprint, &parts, &Whole::default()),
            ResponseBody::untouched(body),
        ),
        Ok(Captured::Unkept(body)) => (Record::tombstone(&fingerprint), ResponseBody::untouched(body)),
        Ok(Captured::Broken(body)) => {
            lease.fail().await;
            return Response::from_parts(parts, body);
        }
        Err(panic) => unwind(lease, client, panic).await,
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
    refused || (!shared.protocol.terms().at_most_once && shared.settings.record.releases(parts))
}

/// Ends a run that has panicked, and lets the panic go on, so that layers outside see it.
async fn unwind<B: Backend>(lease: Lease<B>, client: &Client, panic: Box<dyn Any + Send>) -> ! {
    // Once the client has gone nobody asks for another run right now: the key is left to its lease.
    if !client.has_left() || lease.is_at_most_once() {
        lease.fail().await;
    }
    panic::resume_unwind(panic)
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
