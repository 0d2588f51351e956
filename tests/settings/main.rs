//! The settings that say which requests are guarded, and how.
#![cfg(all(feature = "memory", feature = "test-util"))]

mod answers;
mod body_hash;
mod cover;
mod fingerprint;
mod key_source;
mod record;
mod scope;
mod unhashed;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, Idempotency, IdempotencyLayer, MemoryBackend, Rejection,
    testing::{InnerService, Probe},
};

/// A service under a layer, and what is known of the handler inside.
struct Subject<B, R = Full<Bytes>> {
    service: Idempotency<InnerService<R>, B>,
    handler: Probe,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    rejection: Option<Rejection>,
    body: Bytes,
}

impl Answer {
    fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }

    fn is_marked_not_stored(&self) -> bool {
        self.headers.get("idempotency-stored").is_some_and(|marker| marker == "false")
    }
}

fn layer() -> IdempotencyLayer<MemoryBackend> {
    IdempotencyLayer::new(MemoryBackend::new())
}

/// A handler that answers 200 and the number of its run.
fn over<B: Backend>(layer: &IdempotencyLayer<B>) -> Subject<B> {
    around(layer, InnerService::new())
}

fn around<B: Backend, R>(layer: &IdempotencyLayer<B>, inner: InnerService<R>) -> Subject<B, R> {
    Subject { handler: inner.probe(), service: layer.layer(inner) }
}

impl<B, R> Subject<B, R>
where
    B: Backend,
    R: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send> + Send + 'static,
{
    async fn ask(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.service.clone().oneshot(request).await.unwrap();
        let rejection = response.extensions().get().copied();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, rejection, body }
    }

    /// Asks for a new run.
    async fn runs(&self, request: Request<Full<Bytes>>) -> Answer {
        let before = self.handler.counts().calls;
        let answer = self.ask(request).await;
        assert_eq!((self.handler.counts().calls, answer.is_replay()), (before + 1, false), "no run: {answer:?}");
        answer
    }

    /// Asks for the answer of a run that has been.
    async fn replays(&self, request: Request<Full<Bytes>>) -> Answer {
        let before = self.handler.counts().calls;
        let answer = self.ask(request).await;
        assert_eq!((self.handler.counts().calls, answer.is_replay()), (before, true), "no replay: {answer:?}");
        answer
    }

    async fn rejects(&self, request: Request<Full<Bytes>>, rejection: Rejection) -> Answer {
        let before = self.handler.counts().calls;
        let answer = self.ask(request).await;
        assert_eq!((self.handler.counts().calls, answer.rejection), (before, Some(rejection)), "{answer:?}");
        answer
    }
}

/// A payment with these header lines.
fn payment(lines: &[(&str, &str)], body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("http://localhost/payments");
    let request = lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::from(body)).unwrap()
}

fn keyed(key: &str) -> Request<Full<Bytes>> {
    payment(&[("idempotency-key", key)], "order")
}
