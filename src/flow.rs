//! The way of a guarded request, from top to bottom:
//! key -> fingerprint -> claim (or wait) -> run -> record -> respond.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, header, request, response};
use http_body::Body;
use tower_service::Service;

use crate::{
    Backend, Key, Outcome, Record, Rejection, RequestBody, ResponseBody, Run,
    admission::Admission,
    answer::{answer, replay},
    capture::{Captured, capture, whole_response},
    error::BoxError,
    future::Client,
    identity::Identity,
    layer::Shared,
    panics::{catch_panic, unwind},
    pipe::Recording,
    policy,
    protocol::{Completion, Lease, Refusal, Word},
    reading::{Read, read},
    rejection::Dialect,
    unprotected::{pass, unprotected},
    verdict::withhold,
    waiting,
    whole::Whole,
};

/// What has to be known of a request until it is answered.
struct Asked {
    method: Method,
    dialect: Dialect,
    client: Client,
}

/// Reads a request until its key is known, and guards it then. Every early return gives the readiness of `inner` back.
pub(crate) async fn guarded<B, S, ReqBody, ResBody>(
    shared: Arc<Shared<B>>,
    inner: S,
    admission: Admission,
    parts: request::Parts,
    body: ReqBody,
    client: Client,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    B: Backend,
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    ReqBody: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    let asked = Asked { method: parts.method.clone(), dialect: Dialect::of(&parts.headers), client };
    let (identity, body) = match read(&shared.settings, admission, &parts, body).await {
        Ok(Read::Guard(identity, body)) => (identity, body),
        Ok(Read::Pass(body)) => return pass(inner, parts, body).await,
        Err(rejection) => return Ok(shared.protocol.observer().refused(rejection).response(asked.dialect)),
    };
    shared.settings.hint_at_cookies(&identity, &parts);

    let key = identity.key(&shared.settings.namespace);
    let story = once(&shared, inner, &asked, identity, key, parts, body);
    shared.protocol.observer().request(key, &asked.client, story).await
}

/// Tells the story of a request with a key.
async fn once<B, S, ReqBody, ResBody>(
    shared: &Arc<Shared<B>>,
    mut inner: S,
    asked: &Asked,
    identity: Identity,
    key: Key,
    mut parts: request::Parts,
    body: Whole,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    B: Backend,
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    let fingerprint = shared.settings.fingerprint(&identity, &parts, &body.data);
    let wait = shared.settings.wait_for(&identity);
    let lease = match waiting::claim(shared, &mut inner, key, fingerprint, wait, &asked.client).await? {
        Ok(lease) => lease.keep_for(identity.window),
        Err(Refusal::Unavailable(error)) if shared.settings.runs_unprotected(&identity, &error) => {
            shared.protocol.observer().unprotected(&key);
            return unprotected(inner, parts, body).await;
        }
        Err(refusal) => return Ok(answer(refusal, asked.dialect)),
    };

    policy::strip_markers(&mut parts.headers);
    let hashed = identity.window.is_some();
    parts.extensions.insert(Run::new(identity.text, hashed, &lease, Some(&shared.settings)));
    let request = Request::from_parts(parts, RequestBody::whole(body));

    let handler = catch_panic(async { inner.call(request).await });
    let Some(ended) = shared.settings.on_disconnect.run(&asked.client, handler).await else {
        let outcome = fail(lease).await;
        let mut response = Rejection::OutcomeUnknown.response(asked.dialect); // which nobody gets
        response.extensions_mut().insert(outcome);
        return Ok(response);
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
        Err(panic) => unwind(lease, asked.client.has_left(), panic).await,
    }
}

/// Ends the run: releases its key, or records its response before the client can see the end of it.
async fn conclude<B, ResBody>(
    shared: &Arc<Shared<B>>,
    lease: Lease<B>,
    asked: &Asked,
    response: Response<ResBody>,
) -> Response<ResponseBody<ResBody>>
where
    B: Backend,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    let (mut head, body) = response.into_parts();
    policy::strip_markers(&mut head.headers);
    if shared.releases(&lease, &head) {
        lease.release().await;
        return finished(head, Outcome::Released, ResponseBody::untouched(body));
    }
    let captured = match lease.run().word() {
        Some(Word::KeepWithoutBody) => Ok(Captured::Unkept(body)),
        _ if lease.run().is_committed() => Ok(Captured::Unkept(body)),
        _ => catch_panic(capture(&asked.method, &head, body, shared.settings.response_limit)).await,
    };
    let record = |whole: &Whole| whole_response(&shared.settings.record, &lease.fingerprint(), &head, whole);
    let (record, body) = match captured {
        Ok(Captured::Whole(whole)) if shared.releases_at_end(&lease, &head, whole.trailers.as_ref()) => {
            lease.release().await;
            return finished(head, Outcome::Released, ResponseBody::whole(whole.data, whole.trailers));
        }
        Ok(Captured::Whole(whole)) => (record(&whole), ResponseBody::whole(whole.data, whole.trailers)),
        Ok(Captured::HeadOnly(body)) => (record(&Whole::default()), ResponseBody::untouched(body)),
        Ok(Captured::Unkept(body)) => (Record::tombstone(&lease.fingerprint()), ResponseBody::untouched(body)),
        Ok(Captured::Stream(body)) => {
            let recording = Recording { shared: Arc::clone(shared), lease, head: head.clone() };
            return finished(head, Outcome::Executed, ResponseBody::recorded(recording.start(body)));
        }
        Ok(Captured::Broken(body)) => {
            let outcome = fail(lease).await;
            return finished(head, outcome, body);
        }
        Err(panic) => unwind(lease, asked.client.has_left(), panic).await,
    };
    store(lease, record, asked.dialect, head, body).await
}

/// Ends a run that came to nothing.
async fn fail<B: Backend>(lease: Lease<B>) -> Outcome {
    let kept = lease.keeps_failure() == Some(true);
    lease.fail().await;
    if kept { Outcome::Executed } else { Outcome::Released }
}

/// Stores the record of a response, and then lets the response go.
async fn store<B: Backend, ResBody>(
    lease: Lease<B>,
    record: Record,
    dialect: Dialect,
    mut head: response::Parts,
    body: ResponseBody<ResBody>,
) -> Response<ResponseBody<ResBody>> {
    match lease.complete(record).await {
        Completion::Stored => finished(head, Outcome::Executed, body),
        Completion::Unanswered => {
            policy::mark_not_stored(&mut head.headers);
            finished(head, Outcome::NotStored, body)
        }
        Completion::Superseded(record) => replay(&record, dialect),
        Completion::Lost => Rejection::InProgress.response(dialect),
    }
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
