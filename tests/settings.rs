//! The settings that say which requests are guarded, and how.
#![cfg(all(feature = "memory", feature = "test-util"))]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, channel::Channel};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, BackendError, BackendErrorKind, BackendFailure, BodyHash, FingerprintPolicy, Idempotency,
    IdempotencyLayer, KeySource, MemoryBackend, Outcome, RecordPolicy, Rejection, Run,
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

/// The connection becomes something that can neither be recorded nor replayed.
#[tokio::test]
async fn an_upgrade_passes_and_an_offer_of_h2c_does_not() {
    let subject = over(&layer());
    let upgrade = |to| payment(&[("idempotency-key", "k-1"), ("upgrade", to)], "order");
    subject.runs(upgrade("websocket")).await;
    subject.runs(upgrade("websocket")).await;
    subject.runs(upgrade("h2c")).await;
    subject.replays(upgrade("h2c")).await;
}

/// Also where it would be in the body, which is read for that.
#[tokio::test]
async fn an_upgrade_does_not_pass_without_a_key_that_is_required() {
    let source = KeySource::by(|_, body| body.strip_prefix(b"key=").map(<[u8]>::to_vec));
    for source in [KeySource::default(), source] {
        let subject = over(&layer().key(source).require_key());
        subject.rejects(payment(&[("upgrade", "websocket")], "order"), Rejection::KeyMissing).await;
        subject.runs(payment(&[("upgrade", "websocket"), ("idempotency-key", "k-1")], "key=k-1")).await;
        subject.runs(payment(&[("upgrade", "websocket"), ("idempotency-key", "k-1")], "key=k-1")).await;
    }
}

#[tokio::test]
async fn connect_passes_even_where_it_is_covered() {
    let subject = over(&layer().cover(|_| true));
    let mut connect = keyed("connect");
    *connect.method_mut() = Method::CONNECT;
    subject.runs(connect.clone()).await;
    subject.runs(connect).await;
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

/// A handler that answers with the status and the header lines that the request's body names.
fn obedient() -> InnerService {
    InnerService::answering(|_, body| {
        let status = std::str::from_utf8(&body).unwrap().parse::<u16>().unwrap();
        let response = Response::builder().status(status).header("set-cookie", "a=1").header("set-cookie", "b=2");
        let response = response.header("date", "today").header("x-total", "1").header("etag", "e");
        response.header("connection", "x-hop").header("x-hop", "1").body(Full::from(body)).unwrap()
    })
}

fn answering(status: &'static str) -> Request<Full<Bytes>> {
    payment(&[("idempotency-key", status)], status)
}

#[tokio::test]
async fn a_record_policy_decides_which_responses_are_final() {
    let not_404 = RecordPolicy::when(|parts| parts.status != StatusCode::NOT_FOUND);
    let released: [(RecordPolicy, &[&str]); 3] = [
        (RecordPolicy::default(), &["401", "408", "425", "429", "500", "503", "599"]),
        (RecordPolicy::everything(), &[]),
        (not_404, &["404"]),
    ];
    for (policy, released) in released {
        let subject = around(&layer().record(policy), obedient());
        for status in ["200", "201", "302", "400", "401", "404", "408", "409", "425", "429", "500", "503", "599"] {
            subject.runs(answering(status)).await;
            if released.contains(&status) {
                subject.runs(answering(status)).await;
            } else {
                assert_eq!(subject.replays(answering(status)).await.status.as_str(), status);
            }
        }
    }
}

#[tokio::test]
async fn at_most_once_outweighs_the_record_policy() {
    let subject = around(&layer().at_most_once().record(RecordPolicy::when(|_| false)), obedient());
    subject.runs(answering("500")).await;
    subject.replays(answering("500")).await;
}

#[tokio::test]
async fn headers_are_kept_and_dropped_as_the_policy_says() {
    let names = ["set-cookie", "date", "x-total", "etag", "x-hop", "connection"];
    let policies = [
        (RecordPolicy::default(), ["etag", "x-total"].as_slice()),
        (RecordPolicy::default().keep_header("Set-Cookie").drop_header("ETag"), &["set-cookie", "x-total"]),
        (RecordPolicy::everything().keep_header("date").keep_header("x-hop"), &["date", "etag", "x-total"]),
        (RecordPolicy::default().drop_header("etag").keep_header("etag"), &["etag", "x-total"]),
    ];
    for (policy, kept) in policies {
        let subject = around(&layer().record(policy), obedient());
        let first = subject.runs(answering("200")).await;
        assert!(names.iter().all(|name| first.headers.contains_key(*name)), "the first response is whole");
        let replay = subject.replays(answering("200")).await;
        for name in names {
            assert_eq!(replay.headers.contains_key(name), kept.contains(&name), "{name}");
        }
        let cookies: Vec<_> = replay.headers.get_all("set-cookie").iter().collect();
        assert!(cookies.is_empty() || cookies == ["a=1", "b=2"]);
    }
}

#[tokio::test]
async fn the_layers_own_answers_are_worded_anew() {
    let worded = layer().limits(16, 1024).on_rejection(|rejection, mut answer| match rejection {
        Rejection::Mismatch => Response::new(Bytes::from_static(b"already processed")),
        _ => {
            answer.headers_mut().insert("link", "<https://example.com>; rel=\"describedby\"".parse().unwrap());
            answer
        }
    });
    let subject = over(&worded);

    // Refused before anything is read, while the body is read, and by the backend.
    for (request, rejection) in [
        (keyed("not valid"), Rejection::KeyInvalid),
        (payment(&[("idempotency-key", "k-1")], "more than sixteen bytes"), Rejection::BodyTooLarge),
    ] {
        let answer = subject.rejects(request, rejection).await;
        assert_eq!(answer.status, rejection.status());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.headers.contains_key("link"));
        assert!(answer.body.starts_with(b"{"), "the document is still there");
    }
    subject.runs(keyed("k-1")).await;
    assert!(!subject.replays(keyed("k-1")).await.headers.contains_key("link"));
    let other = payment(&[("idempotency-key", "k-1")], "another order");
    let answer = subject.rejects(other, Rejection::Mismatch).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"already processed"[..]));
    assert!(answer.headers.is_empty());
}

/// A layer outside that counts must not take it for a bypass, which has no outcome.
#[tokio::test]
async fn an_answer_that_is_worded_anew_still_says_what_was_done_and_why() {
    let say = |_, _| Response::new(Bytes::from_static(b"another response"));
    let backend = FaultyBackend::new(MemoryBackend::new());
    backend.on(Command::Claim).next(Fault::ErrorBefore(BackendErrorKind::Corrupt));
    let service = IdempotencyLayer::new(backend).require_key().on_rejection(say).layer(InnerService::new());
    for (request, rejection) in
        [(payment(&[], "an order"), Rejection::KeyMissing), (keyed("k-1"), Rejection::BackendUnavailable)]
    {
        let response = service.clone().oneshot(request).await.unwrap();
        let extensions = response.extensions();
        assert_eq!(extensions.get(), Some(&rejection));
        assert_eq!(extensions.get(), Some(&Outcome::Rejected));
        let cause: Option<&Arc<BackendError>> = extensions.get();
        assert_eq!(cause.is_some(), rejection == Rejection::BackendUnavailable);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "another response");
    }
}

/// What a layer further in refuses is worded there, and recorded nowhere.
#[tokio::test]
async fn the_answers_of_a_layer_further_in_are_left_alone() {
    let say = |text: &'static str| move |_, _| Response::new(Bytes::from_static(text.as_bytes()));
    let inner = layer().namespace("inner").require_key().cover(|parts| parts.uri.path() == "/payments");
    let inner = inner.scope(|_| None::<String>).on_rejection(say("inner")).layer(InnerService::new());
    let outer = layer().on_rejection(say("outer"));
    for _ in 0..2 {
        let response = outer.layer(inner.clone()).oneshot(keyed("k-1")).await.unwrap();
        assert_eq!(response.extensions().get(), Some(&Rejection::ScopeMissing));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "inner");
    }
}

/// Sends `first`, and then each of the others with the same key: those that are the same request, and those that are not.
async fn compare(
    policy: FingerprintPolicy,
    first: &(&[(&str, &str)], &'static str),
    same: &[(&[(&str, &str)], &'static str)],
    others: &[(&[(&str, &str)], &'static str)],
) {
    let request = |(lines, body): &(&[(&str, &str)], &'static str)| {
        payment(&[&[("idempotency-key", "k-1")], *lines].concat(), body)
    };
    let subject = over(&layer().fingerprint(policy));
    subject.runs(request(first)).await;
    for retry in same {
        subject.replays(request(retry)).await;
    }
    for other in others {
        subject.rejects(request(other), Rejection::Mismatch).await;
    }
}

#[tokio::test]
async fn chosen_headers_count_as_well() {
    let policy = FingerprintPolicy::default().header("Api-Version").header("tenant");
    let first: (&[(&str, &str)], _) = (&[("api-version", "1"), ("tenant", "a")], "order");
    let same: &[(&[(&str, &str)], _)] = &[
        (&[("tenant", "a"), ("api-version", "1")], "order"),
        (&[("api-version", "1"), ("tenant", "a"), ("x-attempt", "2")], "order"),
    ];
    let others: &[(&[(&str, &str)], _)] = &[
        (&[("api-version", "2"), ("tenant", "a")], "order"),
        (&[("api-version", "a"), ("tenant", "1")], "order"),
        (&[("api-version", "1")], "order"),
        (&[("api-version", "1"), ("api-version", "a")], "order"),
        (&[("api-version", "1"), ("api-version", "1"), ("tenant", "a")], "order"),
        (&[("api-version", "1"), ("tenant", "a")], "another order"),
    ];
    compare(policy, &first, same, others).await;
}

#[tokio::test]
async fn without_a_fingerprint_the_key_decides_among_the_requests_of_one_caller() {
    let subject = over(&layer().fingerprint(FingerprintPolicy::none()));
    let mut elsewhere = payment(&[("idempotency-key", "k-1")], "another order");
    *elsewhere.uri_mut() = "http://localhost/refunds".parse().unwrap();
    subject.runs(keyed("k-1")).await;
    subject.replays(elsewhere).await;
    let stranger = payment(&[("idempotency-key", "k-1"), ("authorization", "stranger")], "order");
    subject.rejects(stranger, Rejection::CredentialsDiffer).await;
}

#[tokio::test]
async fn a_closure_decides_what_is_the_same() {
    let policy = FingerprintPolicy::by(|parts, body| [parts.uri.path().as_bytes(), &body[..5]].concat());
    compare(policy, &(&[], "order at 12:00"), &[(&[], "order at 12:01")], &[(&[], "refund")]).await;
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_bodies_that_mean_the_same_are_the_same() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];
    const EVENT: &[(&str, &str)] = &[("content-type", "application/cloudevents+json")];
    const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];

    let first = (JSON, r#"{"amount":100,"to":"A"}"#);
    let same = [(JSON, r#"{ "to": "\u0041", "amount": 1e2 }"#), (EVENT, r#"{"to":"A","amount":100.0}"#)];
    let others = [
        (JSON, r#"{"amount":"100","to":"A"}"#),
        (JSON, r#"{"amount":101,"to":"A"}"#),
        (JSON, r#"{"amount":100,"to":"A""#),
        (TEXT, r#"{"to":"A","amount":100}"#),
        (&[], r#"{"to":"A","amount":100}"#),
    ];
    compare(FingerprintPolicy::canonical_json(), &first, &same, &others).await;

    // RFC 8785 would round both to one number.
    let (account, another) = (r#"{"to":9007199254740992}"#, r#"{"to":9007199254740993}"#);
    compare(FingerprintPolicy::canonical_json(), &(JSON, account), &[(JSON, account)], &[(JSON, another)]).await;
    compare(FingerprintPolicy::canonical_json(), &(TEXT, "1"), &[(TEXT, "1")], &[(TEXT, "1.0")]).await;
}

#[tokio::test]
async fn the_first_header_that_is_there_carries_the_key() {
    let source = KeySource::header("Webhook-Id").or(KeySource::header("svix-id")).or(KeySource::default());
    let subject = over(&layer().key(source));
    subject.runs(payment(&[("webhook-id", "a")], "order")).await;
    subject.replays(payment(&[("webhook-id", "\"a\"")], "order")).await;
    subject.replays(payment(&[("svix-id", "a")], "order")).await;
    subject.replays(payment(&[("idempotency-key", "a")], "order")).await;
    subject.replays(payment(&[("svix-id", "b"), ("webhook-id", "a")], "order")).await;
    subject.runs(payment(&[("svix-id", "b")], "order")).await;

    subject.rejects(payment(&[("webhook-id", "not valid")], "order"), Rejection::KeyInvalid).await;
    subject.rejects(payment(&[("svix-id", "a"), ("svix-id", "a")], "order"), Rejection::KeyAmbiguous).await;
    for _ in 0..2 {
        subject.runs(payment(&[], "order")).await;
    }
}

#[tokio::test]
async fn a_closure_finds_the_key_in_head_and_body() {
    let source = KeySource::by(|parts, body| {
        let id = std::str::from_utf8(body).ok()?.strip_prefix("id=")?;
        Some(format!("{}:{id}", parts.method))
    });
    let inner = InnerService::answering(|parts, _| {
        let key = parts.extensions.get::<Run>().map(|run| run.key().to_owned());
        Response::new(Full::from(key.unwrap_or_default()))
    });
    let strict = layer().key(source).limits(16, 1024).require_key();
    let lax = around(&layer().key(KeySource::by(|_, body| (body != b"order").then_some(body.to_vec()))), inner.clone());
    let subject = around(&strict, inner);

    assert_eq!(subject.runs(payment(&[], "id=7")).await.body, "POST:7");
    assert_eq!(subject.replays(payment(&[], "id=7")).await.body, "POST:7");
    assert_eq!(subject.runs(payment(&[], "id=8")).await.body, "POST:8");
    let digested = subject.runs(payment(&[], "id=two words")).await.body;
    assert!(digested.starts_with(b"sha256:"));
    subject.replays(payment(&[], "id=two words")).await;
    subject.rejects(payment(&[], "order"), Rejection::KeyMissing).await;
    subject.rejects(payment(&[], "id=more than sixteen bytes"), Rejection::BodyTooLarge).await;

    for _ in 0..2 {
        assert_eq!(lax.runs(payment(&[], "order")).await.body, "", "no key, no run");
    }
    lax.runs(payment(&[], "another order")).await;
    lax.replays(payment(&[], "another order")).await;
}

/// Its key comes again when the window is over, so it must not guard an effect for good.
#[tokio::test]
async fn a_handler_is_told_whether_its_request_is_known_by_its_body() {
    let inner = InnerService::answering(|parts, _| {
        let by_body = parts.extensions.get::<Run>().map(Run::is_known_by_body);
        Response::new(Full::from(format!("{by_body:?}")))
    });
    let subject = around(&layer().or_body_hash(BodyHash::any_caller(Duration::from_secs(1))), inner);
    assert_eq!(subject.runs(payment(&[], "order")).await.body, "Some(true)");
    assert_eq!(subject.runs(payment(&[("idempotency-key", "k-1")], "order")).await.body, "Some(false)");
}

/// A key from the body is found anew by a layer further in, which finds that it is claimed.
#[tokio::test]
async fn a_layer_with_keys_from_the_body_that_is_applied_twice_runs_once() {
    let layer = layer().key(KeySource::by(|_, body| Some(body.to_vec()))).scope(|_| Some("everybody"));
    let inner = InnerService::new();
    let handler = inner.probe();
    let twice = layer.clone().layer(layer.layer(inner));
    for _ in 0..2 {
        let response = twice.clone().oneshot(payment(&[], "order")).await.unwrap();
        assert_eq!((response.status(), handler.counts().calls), (StatusCode::OK, 1));
    }
}

#[cfg(feature = "json")]
#[tokio::test]
async fn a_json_pointer_finds_the_key_in_the_body() {
    let source = KeySource::header("webhook-id").or(KeySource::json_pointer("/event/id"));
    let subject = over(&layer().key(source).fingerprint(FingerprintPolicy::none()));
    subject.runs(payment(&[], r#"{"event":{"id":"e-1"},"attempt":1}"#)).await;
    subject.replays(payment(&[], r#"{"event":{"id":"e-1"},"attempt":2}"#)).await;
    subject.replays(payment(&[("webhook-id", "e-1")], "{}")).await;
    subject.runs(payment(&[], r#"{"event":{"id":"e-2"},"attempt":1}"#)).await;
    for _ in 0..2 {
        subject.runs(payment(&[], r#"{"event":{}}"#)).await;
    }

    let subject = over(&layer().key(KeySource::json_pointers(["/shop", "/order"])).require_key());
    subject.runs(payment(&[], r#"{"shop":1,"order":2}"#)).await;
    subject.replays(payment(&[], r#"{"shop":1,"order":2}"#)).await;
    subject.runs(payment(&[], r#"{"shop":2,"order":1}"#)).await;
    subject.rejects(payment(&[], r#"{"shop":1}"#), Rejection::KeyMissing).await;
}

const WINDOW: Duration = Duration::from_secs(10);

fn hashing(hash: BodyHash) -> IdempotencyLayer<MemoryBackend> {
    layer().or_body_hash(hash).limits(64, 1024)
}

#[tokio::test]
async fn a_request_without_a_key_is_known_by_target_and_body() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    let order = || payment(&[], "order");
    subject.runs(order()).await;
    subject.replays(order()).await;
    subject.replays(payment(&[("authorization", "a"), ("cookie", "b"), ("x-attempt", "2")], "order")).await;

    subject.runs(payment(&[], "another order")).await;
    for uri in ["http://example.com/payments", "http://localhost/refunds", "http://localhost/payments?a=1"] {
        let mut elsewhere = order();
        *elsewhere.uri_mut() = uri.parse().unwrap();
        subject.runs(elsewhere.clone()).await;
        subject.replays(elsewhere).await;
    }
    let mut patch = order();
    *patch.method_mut() = Method::PATCH;
    subject.runs(patch).await;
    let mut put = order();
    *put.method_mut() = Method::PUT;
    subject.runs(put.clone()).await;
    subject.runs(put).await;
}

#[tokio::test]
async fn body_hashes_of_two_callers_are_two_requests() {
    let subject = over(&hashing(BodyHash::per_caller(WINDOW)));
    let callers: [&[(&str, &str)]; 6] = [
        &[("authorization", "alice")],
        &[("authorization", "bob")],
        &[("cookie", "alice")],
        &[("cookie", "bob")],
        &[("authorization", "alice"), ("cookie", "bob")],
        &[("authorization", "bob"), ("cookie", "alice")],
    ];
    for caller in callers {
        subject.runs(payment(caller, "order")).await;
    }
    for (run, caller) in (1..).zip(callers) {
        assert_eq!(subject.replays(payment(caller, "order")).await.body, format!("{run}"));
    }
    subject.runs(payment(&[("cookie", "a=1; b=2")], "order")).await;
    subject.replays(payment(&[("cookie", "a=1"), ("cookie", "b=2")], "order")).await;
}

/// Two strangers never share an answer.
#[tokio::test]
async fn body_hashes_of_callers_that_cannot_be_told_apart_run_each_time() {
    let subject = over(&hashing(BodyHash::per_caller(WINDOW)));
    let strangers: [&[(&str, &str)]; 4] =
        [&[], &[("authorization", "")], &[("cookie", " ")], &[("authorization", ""), ("cookie", "")]];
    for stranger in strangers {
        for _ in 0..2 {
            subject.runs(payment(stranger, "order")).await;
        }
    }
}

#[tokio::test]
async fn body_hashes_are_kept_for_each_principal() {
    for hash in [BodyHash::per_caller(WINDOW), BodyHash::any_caller(WINDOW)] {
        let subject = over(&hashing(hash).scope(|parts| Some(parts.headers.get("account")?.to_str().ok()?.to_owned())));
        let order = |account, token| payment(&[("account", account), ("authorization", token)], "order");
        subject.runs(order("alice", "first token")).await;
        subject.replays(order("alice", "rotated token")).await;
        subject.runs(order("bob", "first token")).await;
        subject.replays(order("bob", "first token")).await;
        for _ in 0..2 {
            subject.runs(order("", "first token")).await;
            subject.runs(payment(&[("authorization", "first token")], "order")).await;
        }
    }
}

/// A key that is there counts, and nobody can claim with it what another will send without one.
#[tokio::test]
async fn a_key_outweighs_the_body_hash_and_never_meets_it() {
    let inner = InnerService::answering(|parts, _| {
        Response::new(Full::from(parts.extensions.get::<Run>().unwrap().key().to_owned()))
    });
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), inner);
    let hash = subject.runs(payment(&[], "order")).await.body;
    assert!(hash.starts_with(b"sha256:"));
    assert_eq!(subject.runs(keyed("k-1")).await.body, "k-1");
    subject.runs(keyed(std::str::from_utf8(&hash).unwrap())).await;
    assert_eq!(subject.replays(payment(&[], "order")).await.body, hash);
}

#[tokio::test]
async fn a_body_hash_alone_takes_no_notice_of_keys() {
    let subject = over(&layer().key(BodyHash::any_caller(WINDOW)));
    subject.runs(keyed("k-1")).await;
    subject.replays(keyed("k-2")).await;
    let both = over(&layer().or_body_hash(BodyHash::any_caller(WINDOW)).key(KeySource::header("webhook-id")));
    both.runs(payment(&[("webhook-id", "a")], "order")).await;
    both.runs(payment(&[], "order")).await;
    both.replays(payment(&[], "order")).await;
}

#[tokio::test]
async fn empty_bodies_and_grpc_run_each_time_where_bodies_are_hashed() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    for _ in 0..2 {
        subject.runs(payment(&[], "")).await;
        subject.runs(payment(&[("content-type", "application/grpc")], "order")).await;
        subject.runs(payment(&[("content-type", "application/grpc+proto")], "order")).await;
    }
}

/// Echoes the length of the body.
fn measuring() -> InnerService {
    InnerService::answering(|_, body| Response::new(Full::from(body.len().to_string())))
}

#[tokio::test]
async fn a_body_above_the_limit_arrives_whole_where_bodies_are_hashed() {
    const LONG: &str = "123456789 123456789 123456789 123456789 123456789 123456789 123456789";
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), measuring());
    for _ in 0..2 {
        assert_eq!(subject.runs(payment(&[], LONG)).await.body, "69");
        assert_eq!(subject.runs(payment(&[("content-length", "69")], LONG)).await.body, "69");
    }
    subject.rejects(payment(&[("idempotency-key", "k-1")], LONG), Rejection::BodyTooLarge).await;
}

/// In pieces, of which the limit cuts one in two.
#[tokio::test]
async fn a_stream_above_the_limit_arrives_whole_where_bodies_are_hashed() {
    let inner = InnerService::answering(|_, body| Response::new(Full::from(body)));
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    for run in 1..=2 {
        let (mut pieces, body) = Channel::<Bytes>::new(1);
        let request = Request::post("http://localhost/payments").body(body).unwrap();
        let answer = tokio::spawn(service.clone().oneshot(request));
        for piece in 0..10_u8 {
            pieces.send_data(Bytes::from(vec![piece; 30])).await.unwrap();
        }
        drop(pieces);
        let echo = answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(echo, (0..10_u8).flat_map(|piece| [piece; 30]).collect::<Vec<_>>());
        assert_eq!(handler.counts().calls, run);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_reaches_the_handler_while_it_arrives_where_bodies_are_hashed() {
    let inner = measuring();
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    let (mut pieces, body) = Channel::<Bytes>::new(1);
    let request = Request::post("http://localhost/payments").body(body).unwrap();
    let answer = tokio::spawn(service.oneshot(request));
    pieces.send_data(Bytes::from_static(b"first ")).await.unwrap();
    handler.when(|counts| counts.calls == 1).await;
    pieces.send_data(Bytes::from_static(b"second")).await.unwrap();
    drop(pieces);
    let answer = answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, "12");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_not_waited_for_where_bodies_are_hashed() {
    let inner = measuring();
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    let (mut pieces, body) = Channel::<Bytes>::new(1);
    let request = Request::post("http://localhost/payments").header("content-length", "65").body(body).unwrap();
    let answer = tokio::spawn(service.oneshot(request));
    handler.when(|counts| counts.calls == 1).await;
    pieces.send_data(Bytes::from(vec![0; 65])).await.unwrap();
    drop(pieces);
    assert_eq!(answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes(), "65");
}

/// A handler must not take a part of a body for the whole.
#[tokio::test]
async fn a_body_that_fails_does_not_run_where_bodies_are_hashed() {
    let inner = measuring();
    let handler = inner.probe();
    let service = hashing(BodyHash::any_caller(WINDOW)).layer(inner);
    let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(2);
    let request = Request::post("http://localhost/payments").body(body).unwrap();
    pieces.send_data(Bytes::from_static(b"part")).await.unwrap();
    pieces.abort(std::io::Error::other("reset"));
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Rejection::BodyUnreadable));
    assert_eq!(handler.counts().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn where_bodies_are_hashed_they_run_also_without_the_backend() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let subject = over(&IdempotencyLayer::new(backend.clone()).or_body_hash(BodyHash::any_caller(WINDOW)));
    backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    for _ in 0..2 {
        assert!(subject.runs(payment(&[], "order")).await.is_marked_not_stored());
    }
    subject.rejects(keyed("k-1"), Rejection::BackendUnavailable).await;
}

#[tokio::test]
async fn cookies_are_not_recorded_where_bodies_are_hashed() {
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), obedient());
    for _ in 0..2 {
        let answer = subject.runs(payment(&[], "200")).await;
        assert!(answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("idempotent-replayed"));
    }
    subject.runs(answering("200")).await;
    subject.replays(answering("200")).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_hash_lives_for_its_window_and_a_key_for_the_retention() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    subject.runs(payment(&[], "order")).await;
    subject.runs(keyed("k-1")).await;
    tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
    subject.replays(payment(&[], "order")).await;
    tokio::time::advance(Duration::from_millis(2)).await;
    subject.runs(payment(&[], "order")).await;
    subject.replays(keyed("k-1")).await;
}

/// The handler may insist on its key, but not on the record of a cookie.
#[tokio::test]
async fn a_kept_response_with_a_cookie_leaves_a_tombstone() {
    let inner = InnerService::answering(|parts, _| {
        parts.extensions.get::<Run>().expect("a run").keep();
        Response::builder().header("set-cookie", "session=1").body(Full::<Bytes>::from("for one")).unwrap()
    });
    let subject = around(&hashing(BodyHash::any_caller(WINDOW)), inner);
    let first = subject.runs(payment(&[], "order")).await;
    assert!(first.headers.contains_key("set-cookie"));
    subject.rejects(payment(&[], "order"), Rejection::NotKept).await;
}

/// Whoever sends a body without a key could make nothing of a conflict.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_running_is_waited_for() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    subject.handler.hold();
    let first = tokio::spawn(subject.service.clone().oneshot(payment(&[], "order")));
    subject.handler.arrived(1).await;
    let second = tokio::spawn(subject.service.clone().oneshot(payment(&[], "order")));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!second.is_finished());
    subject.handler.open_all();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(second.await.unwrap().unwrap().headers().contains_key("idempotent-replayed"));
    assert_eq!(subject.handler.counts().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_runs_for_too_long_is_in_progress() {
    let subject = over(&hashing(BodyHash::any_caller(WINDOW)));
    subject.handler.hold();
    let first = tokio::spawn(subject.service.clone().oneshot(payment(&[], "order")));
    subject.handler.arrived(1).await;
    subject.rejects(payment(&[], "order"), Rejection::InProgress).await;
    subject.handler.open_all();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_layer_with_body_hashes_that_is_applied_twice_runs_once() {
    let (layer, inner) = (hashing(BodyHash::any_caller(WINDOW)), InnerService::new());
    let handler = inner.probe();
    let twice = layer.clone().layer(layer.layer(inner));
    for _ in 0..2 {
        let response = twice.clone().oneshot(payment(&[], "order")).await.unwrap();
        assert_eq!((response.status(), handler.counts().calls), (StatusCode::OK, 1));
    }
}
