//! What operators read in their logs, by the tables of the documentation, and what must not stand there. On tokio's
//! paused clock.
#![cfg(all(feature = "memory", feature = "test-util", feature = "tracing"))]

use std::{
    collections::BTreeSet,
    convert::identity,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::{task::JoinHandle, time::sleep};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, BackendError, BackendErrorKind, BackendFailure, BodyHash, Deduplicator, Fingerprint, FingerprintPolicy,
    Idempotency, IdempotencyLayer, Key, MemoryBackend, Message, ResponseBody, Run, Token,
    testing::{Command, Fault, FaultyBackend, InnerError, InnerService, Probe, Reaction},
};
use tracing::{Instrument, level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::{
    filter::filter_fn,
    fmt::{MakeWriter, format::FmtSpan},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

#[path = "support/docs.rs"]
mod docs;
#[path = "support/failing.rs"]
mod failing;

use failing::Failing;

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

type Faulty = FaultyBackend<MemoryBackend>;
type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Result<Response<ResponseBody<Body>>, InnerError>;

/// All that this thread logs, as text, while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// From now on everything at `level` and above, the beginnings and ends of spans included if that is TRACE.
    fn begin(level: LevelFilter) -> (Self, DefaultGuard) {
        let log = Self::default();
        let spans = if level == LevelFilter::TRACE { FmtSpan::FULL } else { FmtSpan::NONE };
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_span_events(spans);
        (log.clone(), subscriber.with_writer(log).set_default())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The one line that has `part`.
    fn line(&self, part: &str) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().filter(|line| line.contains(part)).collect();
        let [line] = lines[..] else { panic!("{} lines with {part:?} in {text}", lines.len()) };
        line.to_owned()
    }

    fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }
}

struct Node {
    backend: Faulty,
    service: Idempotency<InnerService<Body>, Faulty>,
    handler: Probe,
}

impl Node {
    /// A layer of the namespace `orders`; its handler logs `handled`.
    fn new(change: impl FnOnce(IdempotencyLayer<Faulty>) -> IdempotencyLayer<Faulty>) -> Self {
        Self::answering(change, |_| whole("done"))
    }

    fn answering(
        change: impl FnOnce(IdempotencyLayer<Faulty>) -> IdempotencyLayer<Faulty>,
        answer: impl Fn(Option<&Run>) -> Body + Send + Sync + 'static,
    ) -> Self {
        let backend = FaultyBackend::new(MemoryBackend::new());
        let inner = InnerService::answering(move |parts, _| {
            tracing::info!("handled");
            Response::new(answer(parts.extensions.get()))
        });
        let handler = inner.probe();
        let layer = change(IdempotencyLayer::new(backend.clone()).namespace("orders"));
        Self { backend, service: layer.layer(inner), handler }
    }

    fn send(&self, request: Request<Body>) -> JoinHandle<Answer> {
        tokio::spawn(self.service.clone().oneshot(request))
    }

    async fn status(&self, request: Request<Body>) -> u16 {
        self.send(request).await.unwrap().unwrap().status().as_u16()
    }

    async fn hold(&self, request: Request<Body>) -> JoinHandle<Answer> {
        self.handler.hold();
        let first = self.send(request);
        self.handler.arrived(1).await;
        first
    }

    /// The run that is held finds its key taken by another.
    async fn steal(&self) {
        let key = Key::new("orders", "k-1");
        assert!(self.backend.inner().remove(&key).await.unwrap());
        self.backend.inner().claim(&key, Token::random(), &Fingerprint::of("another"), LEASE).await.unwrap();
    }
}

fn whole(body: &'static str) -> Body {
    Full::from(body).map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length.
fn stream() -> Body {
    let frame = http_body::Frame::data(Bytes::from_static(b"chunk"));
    StreamBody::new(tokio_stream::once(Ok(frame))).boxed_unsync()
}

fn post(headers: &[(&str, &str)], body: &'static str) -> Request<Body> {
    let request = Request::post("http://localhost/");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(whole(body)).unwrap()
}

fn keyed() -> Request<Body> {
    post(&[("idempotency-key", "k-1")], "one")
}

/// How the span of the request of [`keyed`] begins in a line of the log.
fn span() -> String {
    format!("idempotency{{namespace=\"orders\" key={:?}", Key::new("orders", "k-1"))
}

#[tokio::test(start_paused = true)]
async fn a_handler_speaks_in_the_span_of_its_request() {
    let (log, _logging) = Log::begin(LevelFilter::INFO);
    assert_eq!(Node::new(identity).status(keyed()).await, 200);
    assert!(log.line("handled").contains(&span()), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_bypassed_request_has_no_span() {
    let (log, _logging) = Log::begin(LevelFilter::TRACE);
    let node = Node::new(identity);
    assert_eq!(node.status(post(&[], "one")).await, 200);
    assert_eq!((log.count("handled"), log.count("")), (1, 1), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_span_ends_with_its_outcome() {
    let (log, _logging) = Log::begin(LevelFilter::TRACE);
    let node = Node::new(identity);
    assert_eq!((node.status(keyed()).await, node.status(keyed()).await), (200, 200));
    let text = log.text();
    let closed: Vec<_> = text.lines().filter(|line| line.contains(": close")).collect();
    let [first, second] = closed[..] else { panic!("{text}") };
    assert!(first.contains(&format!("{} outcome=\"executed\"}}", span())), "{first}");
    assert!(second.contains(&format!("{} outcome=\"replayed\"}}", span())), "{second}");
}

/// Sends a request within a span of a server, whose client then leaves.
async fn leave(node: &Node) {
    node.handler.hold();
    let request = node.service.clone().oneshot(keyed()).instrument(tracing::info_span!("server", request = 7));
    let first = tokio::spawn(request);
    node.handler.arrived(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    node.handler.open_all();
    sleep(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_client_has_left_keeps_its_spans() {
    let (log, _logging) = Log::begin(LevelFilter::DEBUG);
    leave(&Node::new(identity)).await;
    let spans = format!("server{{request=7}}:{}", span());
    for said in ["client left", "handled", "request answered"] {
        assert!(log.line(said).contains(&spans), "{}", log.text());
    }
}

/// Nobody wants to lose the span of the server by not wanting that of the layer.
#[tokio::test(start_paused = true)]
async fn without_the_span_of_the_layer_it_keeps_those_around_it() {
    let log = Log::default();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
    let others = filter_fn(|metadata| !metadata.target().starts_with("tower_idempotency"));
    let _logging = tracing_subscriber::registry().with(lines).with(others).set_default();
    leave(&Node::new(identity)).await;
    assert!(log.line("handled").contains("server{request=7}: "), "{}", log.text());
}

/// It goes on in a task of its own.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_is_in_the_span_of_its_request() {
    let (log, _logging) = Log::begin(LevelFilter::INFO);
    let node = Node::answering(identity, |_| stream());
    node.backend.on(Command::Complete).always(Fault::LoseRequest);
    let response = node.send(keyed()).await.unwrap().unwrap();
    response.into_body().collect().await.unwrap();
    let line = log.line("end of a run not answered");
    assert!(line.contains(&format!("{} outcome=\"executed\"}}", span())), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_backend_is_told_with_its_cause() {
    let (log, _logging) = Log::begin(LevelFilter::WARN);
    let service = IdempotencyLayer::new(Failing(|| BackendError::corrupt(io::Error::other("disk on fire"))))
        .namespace("orders")
        .layer(InnerService::new());
    assert_eq!(service.oneshot(keyed()).await.unwrap().status(), 503);
    let line = log.line("claim not answered");
    let error = "error=idempotency backend returned a value that cannot be read error.sources=[disk on fire]";
    assert!(line.contains(error), "{line}");
    assert!(line.contains(&format!("{:?}", Key::new("orders", "k-1"))), "{line}");
}

/// Drives all of it and compares with the documentation, in both directions.
#[tokio::test(start_paused = true)]
async fn the_table_names_each_event_with_its_level() {
    let (log, _logging) = Log::begin(LevelFilter::DEBUG);
    let node = Node::new(|layer| layer.on_backend_failure(BackendFailure::RunUnprotected).require_key());
    assert_eq!(node.status(post(&[], "one")).await, 400); // refused
    leave(&node).await;
    assert_eq!(node.status(post(&[("idempotency-key", "k-1")], "two")).await, 422);
    node.backend.on(Command::Claim).next(Fault::ErrorBefore(BackendErrorKind::Full));
    assert_eq!(node.status(post(&[("idempotency-key", "k-2")], "one")).await, 200); // unprotected

    let node = Node::new(|layer| layer.wait(SECOND));
    node.handler.next(Reaction::Panic);
    assert!(node.send(keyed()).await.unwrap_err().is_panic());
    let first = node.hold(keyed()).await;
    node.backend.on(Command::Wait).next(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    assert_eq!(node.status(keyed()).await, 503); // while it waits
    node.steal().await;
    node.handler.open_all();
    assert_eq!(first.await.unwrap().unwrap().status(), 409); // its lease was lost

    let node = Node::new(identity);
    node.backend.on(Command::Complete).always(Fault::LoseRequest);
    node.backend.on(Command::Renew).always(Fault::LoseRequest);
    assert_eq!(node.status(keyed()).await, 200); // not stored
    sleep(2 * LEASE).await;

    let text = log.text();
    let said = text.lines().filter(|line| line.contains(" tower_idempotency::")).map(|line| {
        let level = line.split_whitespace().nth(1).unwrap();
        let (_, said) = line.split_once(" tower_idempotency::").unwrap();
        let (_, message) = said.split_once(": ").unwrap();
        let fields = [" outcome=", " namespace=", " key=", " error="];
        let end = fields.iter().filter_map(|field| message.find(field)).min().unwrap_or(message.len());
        (message[..end].to_owned(), level.to_owned())
    });
    let documented: BTreeSet<_> =
        docs::table("event").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(said.collect::<BTreeSet<_>>(), documented, "{text}");
}

const COOKIES: &str = "requests carry a Cookie but neither Authorization nor a scope";
const STRANGERS: &str = "run unrecorded, as two strangers must never share an answer";

#[tokio::test(start_paused = true)]
async fn a_layer_warns_once_of_callers_who_are_told_apart_by_a_cookie_alone() {
    let (key, cookie) = (("idempotency-key", "k-1"), ("cookie", "session=a"));
    let (log, _logging) = Log::begin(LevelFilter::WARN);
    let node = Node::new(identity);
    node.status(post(&[key, ("authorization", "Bearer t"), cookie], "one")).await;
    node.status(post(&[cookie], "one")).await;
    Node::new(|layer| layer.scope(|_| Some("ann"))).status(post(&[key, cookie], "one")).await;
    let reading = FingerprintPolicy::default().header("cookie");
    Node::new(|layer| layer.fingerprint(reading)).status(post(&[key, cookie], "one")).await;
    let hashing = Node::new(|layer| layer.or_body_hash(BodyHash::per_caller(SECOND)));
    hashing.status(post(&[cookie], "one")).await;
    assert_eq!(log.count(COOKIES), 0, "{}", log.text());

    for _ in 0..2 {
        node.status(post(&[("idempotency-key", "k-2"), cookie], "one")).await;
    }
    assert_eq!(log.count(COOKIES), 1, "{}", log.text());
    Node::new(identity).status(post(&[key, cookie], "one")).await;
    assert_eq!(log.count(COOKIES), 2, "another layer");
}

#[tokio::test(start_paused = true)]
async fn a_layer_warns_once_of_strangers_that_no_body_hash_tells_apart() {
    let (log, _logging) = Log::begin(LevelFilter::WARN);
    let node = Node::new(|layer| layer.or_body_hash(BodyHash::per_caller(SECOND)));
    node.status(post(&[("authorization", "Bearer t")], "one")).await;
    node.status(post(&[("content-type", "application/grpc")], "one")).await;
    Node::new(|layer| layer.or_body_hash(BodyHash::any_caller(SECOND))).status(post(&[], "one")).await;
    assert_eq!(log.count(STRANGERS), 0, "{}", log.text());

    for _ in 0..2 {
        node.status(post(&[], "one")).await;
    }
    assert_eq!(log.count(STRANGERS), 1, "{}", log.text());
}

/// Everything that a client, a handler or a message says here has the word in it.
const SECRET: &str = "hush";

/// Whatever happens, and however much is logged: nothing that a client sent, and no answer, stands in the log.
#[tokio::test(start_paused = true)]
async fn nothing_that_a_client_sends_is_logged() {
    let (log, _logging) = Log::begin(LevelFilter::TRACE);
    let secret = |key: &str, authorization: &str, body: &'static str| {
        let headers = [
            ("idempotency-key", format!("{SECRET}-{key}")),
            ("authorization", format!("{SECRET}-{authorization}")),
            ("cookie", format!("{SECRET}=1")),
            ("user", format!("{SECRET}-ann")),
        ];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut request = post(&headers, body);
        *request.uri_mut() = format!("http://localhost/{SECRET}?{SECRET}").parse().unwrap();
        request
    };
    let scoped = |layer: IdempotencyLayer<Faulty>| layer.scope(|parts| parts.headers.get("user").cloned());
    let hashed = |layer: IdempotencyLayer<Faulty>| layer.or_body_hash(BodyHash::per_caller(SECOND));
    for change in [&scoped as &dyn Fn(_) -> _, &hashed, &IdempotencyLayer::at_most_once, &identity] {
        let node = Node::answering(|layer| change(layer.wait(SECOND)), |_| whole("hush: the answer"));
        let first = node.hold(secret("1", "t", "hush: one")).await;
        let waiter = node.send(secret("1", "t", "hush: one"));
        sleep(2 * SECOND).await;
        first.abort();
        node.handler.open_all();
        assert_eq!(waiter.await.unwrap().unwrap().status(), 409);
        assert_eq!(node.status(secret("1", "t", "hush: one")).await, 200);
        assert_eq!(node.status(secret("1", "t", "hush: two")).await, 422);
        node.status(secret("1", "t-2", "hush: one")).await;
        node.status(secret(" ", "t", "hush: one")).await;
        node.handler.next(Reaction::Panic);
        assert!(node.send(secret("2", "t", "hush: one")).await.unwrap_err().is_panic());
        node.handler.next(Reaction::Fail);
        assert!(node.send(secret("3", "t", "hush: one")).await.unwrap().is_err());
        let mut keyless = secret("4", "t", "hush: one");
        keyless.headers_mut().remove("idempotency-key");
        assert_eq!(node.status(keyless).await, 200);
        node.backend.on(Command::Complete).always(Fault::ErrorAfter(BackendErrorKind::Unavailable));
        node.backend.on(Command::Renew).always(Fault::LoseRequest);
        node.status(secret("5", "t", "hush: one")).await;
        sleep(2 * LEASE).await;
        node.backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Corrupt));
        assert_eq!(node.status(secret("6", "t", "hush: one")).await, 503);
    }
    let deduplicator = Deduplicator::new(MemoryBackend::new());
    for message in [Message::new("hush-1").payload("hush"), Message::new("hush-1").payload("hush: another")] {
        let _ = deduplicator.run(message, async { Ok::<_, io::Error>("hush: done") }).await;
    }
    assert!(log.count("request answered") > 30 && log.count("WARN") > 8, "{}", log.text());
    let text = log.text().to_lowercase();
    let told: Vec<_> = text.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(told.is_empty(), "{told:#?}");
}
