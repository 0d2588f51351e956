//! A client whose requests carry one key each, however often they are sent.
use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::sleep;
use tower::{
    BoxError, Service, ServiceBuilder,
    retry::{
        Policy,
        backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
    },
    service_fn,
    util::rng::HasherRng,
};
use tower_http::request_id::{MakeRequestUuid, SetRequestIdLayer};

type Attempt = Request<Full<Bytes>>;

pub(crate) fn client() -> impl Service<Attempt, Response = Response<Bytes>, Error = BoxError, Future: Send> + Clone {
    let http = Client::builder(TokioExecutor::new()).build_http();
    // An attempt includes the body: if the connection breaks in the middle of it, the answer is lost, too.
    let attempt = service_fn(move |request: Attempt| {
        let answer = http.request(request);
        async move {
            let (head, body) = answer.await?.into_parts();
            Ok::<_, BoxError>(Response::from_parts(head, body.collect().await?.to_bytes()))
        }
    });
    ServiceBuilder::new()
        // Outside the retries: one key for each intent. A request that has a key keeps it.
        .layer(SetRequestIdLayer::new(HeaderName::from_static("idempotency-key"), MakeRequestUuid))
        .retry(Retries::new(6))
        // Inside: a timeout for each attempt.
        .timeout(Duration::from_secs(10))
        .service(attempt)
}

/// Sends a request again, unchanged, if that may help. It is cloned for each request.
#[derive(Clone)]
struct Retries {
    left: u32,
    pause: ExponentialBackoff,
}

impl Retries {
    fn new(left: u32) -> Self {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        let pauses = ExponentialBackoffMaker::new(shortest, longest, 0.5, HasherRng::default());
        Self { left, pause: pauses.expect("the shortest pause is shorter than the longest").make_backoff() }
    }
}

impl Policy<Attempt, Response<Bytes>, BoxError> for Retries {
    type Future = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn retry(&mut self, _: &mut Attempt, result: &mut Result<Response<Bytes>, BoxError>) -> Option<Self::Future> {
        let wished = match result {
            Ok(answer) if is_final(answer) => return None,
            Ok(answer) => retry_after(answer),
            Err(_) => None, // no answer: it may or may not have run
        };
        self.left = self.left.checked_sub(1)?;
        let (pause, wished) = (self.pause.next_backoff(), sleep(wished.unwrap_or_default()));
        Some(Box::pin(async {
            tokio::join!(pause, wished);
        }))
    }

    fn clone_request(&mut self, request: &Attempt) -> Option<Attempt> {
        Some(request.clone()) // the key, too
    }
}

/// Whether sending the same request again would not change the response.
fn is_final(answer: &Response<Bytes>) -> bool {
    match answer.status() {
        StatusCode::CONFLICT => retry_after(answer).is_none(), // with it: the first attempt is still running
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => false,
        status => !status.is_server_error(), // 422 too: the key belongs to another request
    }
}

fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
