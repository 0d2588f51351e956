//! The settings that say which requests are guarded, and how.
#![cfg(all(feature = "memory", feature = "test-util"))]

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, BackendErrorKind, BackendFailure, Idempotency, IdempotencyLayer, MemoryBackend, Rejection, Run,
    testing::{Command, Fault, FaultyBackend, InnerService, Probe},
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
    R: Body<Data = Bytes, Error: Send + std::fmt::Debug> + Send + 'static,
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

#[tokio::test]
async fn a_predicate_covers_in_place_of_the_default() {
    let subject = over(&layer().cover(|parts| parts.uri.path() == "/payments"));
    let mut get = keyed("get");
    *get.method_mut() = Method::GET;
    subject.runs(get.clone()).await;
    subject.replays(get).await;

    let mut elsewhere = keyed("elsewhere");
    *elsewhere.uri_mut() = "http://localhost/live".parse().unwrap();
    subject.runs(elsewhere.clone()).await;
    subject.runs(elsewhere).await;
}

/// A request that is not covered needs no key where one is required.
#[tokio::test]
async fn a_required_key_is_required_of_covered_requests_only() {
    let subject = over(&layer().require_key().cover(|parts| parts.method == Method::PUT));
    subject.runs(payment(&[], "order")).await;
    let mut put = payment(&[], "order");
    *put.method_mut() = Method::PUT;
    subject.rejects(put, Rejection::KeyMissing).await;
}

fn by_account() -> IdempotencyLayer<MemoryBackend> {
    layer().scope(|parts| parts.headers.get("account").map(|account| account.as_bytes().to_vec()))
}

fn keyed_by(account: &str, token: &str) -> Request<Full<Bytes>> {
    payment(&[("idempotency-key", "k-1"), ("account", account), ("authorization", token)], "order")
}

#[tokio::test]
async fn principals_with_one_key_have_an_answer_each() {
    let subject = over(&by_account());
    let alice = subject.runs(keyed_by("alice", "t")).await;
    let bob = subject.runs(keyed_by("bob", "t")).await;
    assert_ne!(alice.body, bob.body);
    assert_eq!(subject.replays(keyed_by("alice", "t")).await.body, alice.body);
    assert_eq!(subject.replays(keyed_by("bob", "t")).await.body, bob.body);
}

#[tokio::test]
async fn a_scope_takes_the_place_of_the_credentials() {
    let subject = over(&by_account());
    subject.runs(keyed_by("alice", "first token")).await;
    subject.replays(keyed_by("alice", "rotated token")).await;

    let unscoped = over(&layer());
    unscoped.runs(keyed_by("alice", "first token")).await;
    unscoped.rejects(keyed_by("alice", "rotated token"), Rejection::CredentialsDiffer).await;
}

#[tokio::test]
async fn a_request_without_a_principal_is_refused_unless_it_has_no_key() {
    let subject = over(&by_account());
    let missing = subject.rejects(keyed("k-1"), Rejection::ScopeMissing).await;
    assert_eq!(missing.status, StatusCode::UNAUTHORIZED);
    subject.rejects(keyed_by("", "t"), Rejection::ScopeMissing).await;
    subject.runs(payment(&[], "order")).await;
}

/// A layer that is applied twice finds its own key, whoever's it is.
#[tokio::test]
async fn a_scoped_layer_that_is_applied_twice_runs_once() {
    let (layer, inner) = (by_account(), InnerService::new());
    let handler = inner.probe();
    let twice = layer.clone().layer(layer.layer(inner));
    let response = twice.oneshot(keyed_by("alice", "t")).await.unwrap();
    assert_eq!((response.status(), handler.counts().calls), (StatusCode::OK, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_claim_is_not_answered_is_refused_or_runs_unprotected() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let strict = IdempotencyLayer::new(backend.clone());
    let lax = strict.clone().on_backend_failure(BackendFailure::RunUnprotected);
    let inner = InnerService::answering(|parts, body| {
        assert!(parts.extensions.get::<Run>().is_none(), "a run without a claim");
        Response::builder().header("idempotent-replayed", "forged").body(Full::from(body)).unwrap()
    });
    let (strict, lax) = (over(&strict), around(&lax, inner));

    for fault in [BackendErrorKind::Unavailable, BackendErrorKind::TimedOut, BackendErrorKind::Full] {
        backend.on(Command::Claim).always(Fault::ErrorBefore(fault));
        strict.rejects(keyed("k-1"), Rejection::BackendUnavailable).await;
        for _ in 0..2 {
            let answer = lax.runs(keyed("k-1")).await;
            assert!(answer.is_marked_not_stored());
            assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"order"[..]));
        }
    }
    backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Corrupt));
    lax.rejects(keyed("k-1"), Rejection::BackendUnavailable).await;

    backend.clear();
    strict.runs(keyed("k-1")).await;
    lax.replays(keyed("k-1")).await;
}
