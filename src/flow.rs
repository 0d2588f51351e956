//! What happens to a guarded request, from top to bottom.
//!
//! `guarded` reads it until its key is known; `once` takes its fingerprint, claims the key or waits for it, and runs the
//! handler; `conclude` records the response, and hands it on.

use std::{future::Future, mem, sync::Arc};

use bytes::Bytes;
use http::{Extensions, Method, Request, Response, header, request, response};
use http_body::Body;
use tower_service::Service;

use crate::{
    Backend, Key, Outcome, Record, Rejection, RequestBody, ResponseBody, Run,
    admission::Admission,
    answer::{answer, replay},
    capture::{Captured, capture, say_length, whole_response},
    error::BoxError,
    future::Client,
    identity::Identity,
    layer::Shared,
    markers,
    panics::{catch_panic, unwind},
    pipe::Recording,
    protocol::{Completion, Lease, Refusal, Word},
    reading::{Read, read},
    rejection::Dialect,
    unprotected::{pass, unprotected},
    verdict::withhold,
    waiting,
    whole::Whole,
};

// An `async fn` stores its arguments twice, as captured and as locals of its body, and its whole state is copied when it
// is awaited. Large values are therefore borrowed here, or captured by the `async` block of a plain function, and what
// is rarely awaited is boxed: docs/decisions/0018-size-of-the-story.md.

/// What has to be remembered of a request until it is answered.
struct Asked {
    method: Method,
    dialect: Dialect,
    client: Client,
}

/// Reads a request until its key is known, and then guards it. Every early return gives the readiness of `inner` back.
pub(crate) fn guarded<B, S, ReqBody, ResBody>(
    shared: Arc<Shared<B>>,
    mut inner: S,
    admission: Admission,
    mut parts: request::Parts,
    body: ReqBody,
    client: Client,
) -> impl Future<Output = Result<Response<ResponseBody<ResBody>>, S::Error>>
where
    B: Backend,
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    ReqBody: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    let asked = Asked { method: parts.method.clone(), dialect: Dialect::of(&parts.headers), client };
    async move {
        let (identity, mut body) = match read(&shared.settings, admission, &parts, body).await {
            Ok(Read::Guard(identity, body)) => (identity, body),
            Ok(Read::Pass(body)) => return Box::pin(pass(&mut inner, parts, body)).await,
            Err(rejection) => {
                let rejection = shared.protocol.observer().refused(rejection);
                return Ok(shared.settings.worded(rejection.response(asked.dialect)));
            }
        };
        shared.settings.hint_at_cookies(&identity, &parts);

        let key = identity.key(&shared.settings.namespace);
        let story = once(&shared, &mut inner, &asked, identity, &key, &mut parts, &mut body);
        let response = shared.protocol.observer().request(key, &asked.client, story).await?;
        Ok(shared.settings.worded(response))
    }
}

/// Runs a request with a key under a claim, or answers it without a run.
fn once<B, S, ReqBody, ResBody>(
    shared: &Arc<Shared<B>>,
    inner: &mut S,
    asked: &Asked,
    identity: Identity,
    key: &Key,
    parts: &mut request::Parts,
    body: &mut Whole,
) -> impl Future<Output = Result<Response<ResponseBody<ResBody>>, S::Error>>
where
    B: Backend,
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    let hashed = identity.window.is_some();
    async move {
        let fingerprint = shared.settings.fingerprint(&identity, parts, &body.data);
        let wait = shared.settings.wait_for(&identity);
        let lease = match waiting::claim(shared, inner, key, &fingerprint, wait, &asked.client).await? {
            Ok(lease) => lease.keep_for(identity.window),
            Err(Refusal::Unavailable(error)) if shared.settings.runs_unprotected(&identity, &error) => {
                shared.protocol.observer().unprotected(key);
                asked.client.may_leave();
                return Box::pin(unprotected(inner, take(parts), mem::take(body))).await;
            }
            Err(refusal) => return Ok(answer(refusal, asked.dialect, emptied(parts))),
        };

        markers::strip(&mut parts.headers);
        Run::new(identity.text, hashed, &lease, Some(&shared.settings)).attach(&mut parts.extensions);
        let request = Request::from_parts(take(parts), RequestBody::whole(mem::take(body)));

        let handler = || catch_panic(|| inner.call(request));
        let Some(ended) = shared.settings.on_disconnect.run(&asked.client, handler).await else {
            return Ok(Box::pin(cancelled(lease, asked.dialect)).await);
        };
        match ended {
            Ok(Ok(response)) => {
                if hashed && response.headers().contains_key(header::SET_COOKIE) {
                    withhold(&lease);
                }
                Ok(conclude(shared, lease, asked, response).await)
            }
            Ok(Err(error)) => {
                lease.fail().await;
                Err(error)
            }
            Err(panic) => Box::pin(unwind(lease, asked.client.has_left(), panic)).await,
        }
    }
}

/// Ends the run: releases its key, or records its response before the client can see the end of it.
fn conclude<B, ResBody>(
    shared: &Arc<Shared<B>>,
    lease: Lease<B>,
    asked: &Asked,
    response: Response<ResBody>,
) -> impl Future<Output = Response<ResponseBody<ResBody>>>
where
    B: Backend,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    let (mut head, body) = response.into_parts();
    markers::strip(&mut head.headers);
    if asked.method == Method::HEAD
        && let Some(length @ 1..) = body.size_hint().exact()
    {
        say_length(&mut head.headers, length);
    }
    async move {
        if shared.releases(&lease, &head) {
            lease.release().await;
            return finished(head, Outcome::Released, ResponseBody::untouched(body));
        }
        // What the handler has committed is already the record: none is made here, and `complete` sends nothing.
        let unkept = lease.run().is_committed() || lease.run().word() == Some(Word::KeepWithoutBody);
        let captured = if unkept {
            Ok(Captured::Unkept(body))
        } else {
            catch_panic(|| capture(&asked.method, &head, body, shared.settings.response_limit)).await
        };
        let record = |head: &response::Parts, whole: &Whole| {
            whole_response(&shared.settings.record, &lease.fingerprint(), head, whole)
        };
        let (record, body) = match captured {
            Ok(Captured::Whole(whole)) if shared.releases_at_end(&lease, &head, whole.trailers()) => {
                lease.release().await;
                return finished(head, Outcome::Released, ResponseBody::whole(whole));
            }
            Ok(Captured::Whole(whole)) => {
                if whole.trailers().is_some() {
                    say_length(&mut head.headers, whole.data.len() as u64);
                }
                (record(&head, &whole), ResponseBody::whole(whole))
            }
            Ok(Captured::HeadOnly(body)) => (record(&head, &Whole::default()), ResponseBody::untouched(body)),
            Ok(Captured::Unkept(body)) => (Record::tombstone(&lease.fingerprint()), ResponseBody::untouched(body)),
            Ok(Captured::Stream(body)) => {
                let recording = Recording { shared: Arc::clone(shared), lease, head: head.clone() };
                return finished(head, Outcome::Executed, ResponseBody::recorded(recording.start(body)));
            }
            Ok(Captured::Broken(body)) => {
                let outcome = fail(lease).await;
                return finished(head, outcome, body);
            }
            Err(panic) => Box::pin(unwind(lease, asked.client.has_left(), panic)).await,
        };
        match lease.complete(record).await {
            Completion::Stored => finished(head, Outcome::Executed, body),
            Completion::Unanswered => {
                markers::mark_not_stored(&mut head.headers);
                finished(head, Outcome::NotStored, body)
            }
            Completion::Superseded(record) => replay(&record, asked.dialect, Extensions::new()),
            Completion::Lost => Rejection::InProgress.response(asked.dialect),
        }
    }
}

/// Ends a run whose handler was dropped because its client has left: nobody gets the answer.
async fn cancelled<B: Backend, ResBody>(lease: Lease<B>, dialect: Dialect) -> Response<ResponseBody<ResBody>> {
    let mut response = Rejection::OutcomeUnknown.response(dialect);
    response.extensions_mut().insert(fail(lease).await);
    response
}

/// Ends a run that has failed, and tells whether its key is kept all the same.
async fn fail<B: Backend>(lease: Lease<B>) -> Outcome {
    let kept = lease.keeps_failure() == Some(true);
    lease.fail().await;
    if kept { Outcome::Executed } else { Outcome::Released }
}

/// The handler's own answer.
fn finished<ResBody>(
    mut head: response::Parts,
    outcome: Outcome,
    body: ResponseBody<ResBody>,
) -> Response<ResponseBody<ResBody>> {
    head.extensions.insert(outcome);
    Response::from_parts(head, body)
}

/// The extensions of a request that does not run, emptied and reused for its response: new ones take two allocations.
fn emptied(parts: &mut request::Parts) -> Extensions {
    let mut extensions = mem::take(&mut parts.extensions);
    extensions.clear();
    extensions
}

/// Takes the head out and leaves an empty one, so that the future has room for one head only.
fn take(parts: &mut request::Parts) -> request::Parts {
    mem::replace(parts, Request::new(()).into_parts().0)
}
