//! The way of a guarded request, from top to bottom:
//! key -> fingerprint -> claim (or wait) -> run -> record -> respond.

use std::{any::Any, future::Future, panic, pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use http::{Method, Request, Response, header, request, response};
use http_body::Body;
use tower_service::Service;

use crate::{
    Backend, Outcome, Record, Rejection, RequestBody, ResponseBody, Run,
    admission::Admission,
    body::{BoxError, Whole},
    capture::{Captured, capture, whole_response},
    codec::Content,
    future::Client,
    layer::Shared,
    pipe::Recording,
    policy,
    protocol::{Completion, Lease, Refusal, Word},
    reading::{Read, read},
    rejection::Dialect,
    unprotected::{pass, unprotected},
    waiting,
};

/// What has to be known of a request until it is answered.
struct Asked {
    method: Method,
    dialect: Dialect,
    client: Client,
}

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
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    ReqBody: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    let asked = Asked { method: parts.method.clone(), dialect: Dialect::of(&parts.headers), client };
    let (identity, body) = match read(&shared.settings, admission, &parts, body).await {
        Ok(Read::Guard(identity, body)) => (identity, body),
        Ok(Read::Pass(body)) => return pass(inner, parts, body).await,
        Err(rejection) => return Ok(rejection.response(asked.dialect)),
    };
    let fingerprint = shared.settings.fingerprint(&identity, &parts, &body.data);

    let key = identity.key(&shared.settings.namespace);
    let wait = shared.settings.wait_for(&identity);
    let lease = match waiting::claim(&shared, &mut inner, key, fingerprint, wait, &asked.client).await? {
        Ok(lease) => lease.keep_for(identity.window),
        Err(Refusal::Unavailable(error)) if shared.settings.runs_unprotected(&identity, &error) => {
            return unprotected(inner, parts, body).await;
        }
        Err(refusal) => return Ok(answer(refusal, asked.dialect)),
    };

    policy::strip_markers(&mut parts.headers);
    let hashed = identity.window.is_some();
    parts.extensions.insert(Run::new(identity.text, Arc::clone(lease.run())));
    let request = Request::from_parts(parts, RequestBody::whole(body));

    let handler = catch_panic(async { inner.call(request).await });
    let Some(ended) = shared.settings.on_disconnect.run(&asked.client, handler).await else {
        lease.fail().await;
        return Ok(Rejection::OutcomeUnknown.response(asked.dialect)); // which nobody gets
    };
    match ended {
        Ok(Ok(response)) => {
            if hashed && response.headers().contains_key(header::SET_COOKIE) {
                withhold(&lease);
            }
            Ok(conclude(&shared, lease, &asked, response).await)
        }
        Ok(Err(error)) => {
            lease.fail().await;
            Err(error)
        }
        Err(panic) => unwind(lease, &asked.client, panic).await,
    }
}

/// The answer to a request that does not run.
fn answer<ResBody>(refusal: Refusal, dialect: Dialect) -> Response<ResponseBody<ResBody>> {
    match refusal {
        Refusal::Replay(record) => replay(&record, dialect),
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
fn replay<ResBody>(record: &Record, dialect: Dialect) -> Response<ResponseBody<ResBody>> {
    match record.content() {
        Ok(Content::Response(recorded)) => {
            let mut response = Response::new(ResponseBody::whole(recorded.body, recorded.trailers));
            *response.status_mut() = recorded.status;
            *response.headers_mut() = recorded.headers;
            policy::mark_replayed(response.headers_mut());
            response.extensions_mut().insert(Outcome::Replayed);
            response
        }
        Ok(Content::OutcomeUnknown) => Rejection::OutcomeUnknown.response(dialect),
        Ok(Content::Tombstone | Content::Value(_)) => Rejection::NotKept.response(dialect),
        Err(_) => Rejection::BackendUnavailable.response(dialect),
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
    let fingerprint = lease.fingerprint();
    let (mut parts, body) = response.into_parts();
    policy::strip_markers(&mut parts.headers);
    let word = lease.run().word();
    if releases(shared, &parts, word) {
        lease.release().await;
        parts.extensions.insert(Outcome::Released);
        return Response::from_parts(parts, ResponseBody::untouched(body));
    }
    let policy = &shared.settings.record;
    let captured = match word {
        Some(Word::KeepWithoutBody) => Ok(Captured::Unkept(body)),
        _ => catch_panic(capture(&asked.method, &parts, body, shared.settings.response_limit)).await,
    };
    let (record, body) = match captured {
        Ok(Captured::Whole(whole)) if shared.releases_at_end(&lease, &parts, whole.trailers.as_ref()) => {
            lease.release().await;
            parts.extensions.insert(Outcome::Released);
            return Response::from_parts(parts, ResponseBody::whole(whole.data, whole.trailers));
        }
        Ok(Captured::Whole(whole)) => {
            (whole_response(policy, &fingerprint, &parts, &whole), ResponseBody::whole(whole.data, whole.trailers))
        }
        Ok(Captured::HeadOnly(body)) => {
            (whole_response(policy, &fingerprint, &parts, &Whole::default()), ResponseBody::untouched(body))
        }
        Ok(Captured::Unkept(body)) => (Record::tombstone(&fingerprint), ResponseBody::untouched(body)),
        Ok(Captured::Stream(body)) => {
            parts.extensions.insert(Outcome::Executed);
            let recording = Recording { shared: Arc::clone(shared), lease, head: parts.clone() };
            return Response::from_parts(parts, ResponseBody::recorded(recording.start(body)));
        }
        Ok(Captured::Broken(body)) => {
            let kept = lease.keeps_failure() == Some(true);
            parts.extensions.insert(if kept { Outcome::Executed } else { Outcome::Released });
            lease.fail().await;
            return Response::from_parts(parts, body);
        }
        Err(panic) => unwind(lease, &asked.client, panic).await,
    };
    match lease.complete(record).await {
        Completion::Stored => {
            parts.extensions.insert(Outcome::Executed);
            Response::from_parts(parts, body)
        }
        Completion::Unanswered => {
            parts.extensions.insert(Outcome::NotStored);
            policy::mark_not_stored(&mut parts.headers);
            Response::from_parts(parts, body)
        }
        Completion::Superseded(record) => replay(&record, asked.dialect),
        Completion::Lost => Rejection::InProgress.response(asked.dialect),
    }
}

/// Whether the run counts as not having happened. What another idempotency layer refused has not, whatever the handler
/// says.
fn releases<B: Backend>(shared: &Shared<B>, parts: &response::Parts, word: Option<Word>) -> bool {
    let refused = parts.extensions.get::<Rejection>().is_some();
    let released = match word {
        Some(word) => word == Word::Release,
        None => !shared.protocol.terms().at_most_once && shared.settings.record.releases(parts),
    };
    refused || released
}

/// Keeps a response out of its record, whatever the handler has said of its key. A cookie was made for one user, and the
/// same body may be sent by another.
fn withhold<B: Backend>(lease: &Lease<B>) {
    lease.run().say(match lease.run().word() {
        None | Some(Word::Release) => Word::Release,
        Some(Word::Keep | Word::KeepWithoutBody) => Word::KeepWithoutBody,
    });
}

/// Ends a run that has panicked, and lets the panic go on, so that layers outside see it.
pub(crate) async fn unwind<B: Backend>(lease: Lease<B>, client: &Client, panic: Box<dyn Any + Send>) -> ! {
    // Once the client has gone nobody asks for another run right now: the key is left to its lease.
    if !client.has_left() || lease.keeps_failure().is_some() {
        lease.fail().await;
    }
    panic::resume_unwind(panic)
}

/// Runs `future` and returns its panic as an error.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
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
