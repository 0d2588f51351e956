//! What a handler says of its run, and what the layer says of it to layers outside.
#![cfg(all(feature = "memory", feature = "test-util"))]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, channel::Channel};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::{
    Backend, BackendErrorKind, Entry, IdempotencyLayer, Key, MemoryBackend, OnDisconnect, Outcome, Rejection,
    RequestBody, Run,
    testing::{Command, Fault, FaultyBackend, InnerService, Probe},
};

type Faulty = FaultyBackend<MemoryBackend>;

fn request(key: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post("http://localhost/").header("idempotency-key", key).body(Full::from(body)).unwrap()
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    outcome: Option<Outcome>,
    rejection: Option<Rejection>,
    body: Bytes,
}

/// How a run ends, once its handler has spoken.
#[derive(Clone, Copy)]
enum End {
    Status(StatusCode),
    Error,
    Panic,
}

const CREATED: End = End::Status(StatusCode::CREATED);
const FAILED: End = End::Status(StatusCode::INTERNAL_SERVER_ERROR);

/// A node whose handler speaks and ends as it is told.
struct Node {
    backend: Faulty,
    layer: IdempotencyLayer<Faulty>,
    runs: Arc<AtomicUsize>,
}

impl Node {
    fn new() -> Self {
        let backend = FaultyBackend::new(MemoryBackend::new());
        Self { layer: IdempotencyLayer::new(backend.clone()), backend, runs: Arc::default() }
    }

    fn at_most_once() -> Self {
        let node = Self::new();
        Self { layer: node.layer.clone().at_most_once(), ..node }
    }

    /// `None`: the service has answered with an error, or the handler has panicked.
    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        speak: impl Fn(&Run) + Send + Sync + 'static,
        end: End,
    ) -> Option<Answer> {
        let (runs, speak) = (Arc::clone(&self.runs), Arc::new(speak));
        let service = self.layer.layer(service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            let (runs, speak) = (Arc::clone(&runs), Arc::clone(&speak));
            async move {
                let run = 1 + runs.fetch_add(1, Ordering::Relaxed);
                request.extensions().get().into_iter().for_each(|run| speak(run));
                match end {
                    End::Status(status) => {
                        Ok(Response::builder().status(status).body(Full::<Bytes>::from(run.to_string())).unwrap())
                    }
                    End::Error => Err("failed"),
                    End::Panic => panic!("the handler panics"),
                }
            }
        }));
        let response = tokio::spawn(service.oneshot(request)).await.ok()?.ok()?;
        let (parts, body) = response.into_parts();
        Some(Answer {
            status: parts.status,
            headers: parts.headers,
            outcome: parts.extensions.get().copied(),
            rejection: parts.extensions.get().copied(),
            body: body.collect().await.unwrap().to_bytes(),
        })
    }

    /// The answer to the request of these tests, after runs that said nothing.
    async fn again(&self) -> Answer {
        self.send(request("k-1", "one"), |_| {}, CREATED).await.unwrap()
    }

    /// Waits until no run is live, and fails when that does not come.
    async fn drained(&self) {
        let runs = self.layer.runs();
        tokio::time::timeout(Duration::from_secs(10), runs.drain()).await.expect("a run is left");
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }
}

async fn assert_replays(node: &Node, status: StatusCode) {
    let again = node.again().await;
    assert_eq!((again.status, again.outcome, &*again.body), (status, Some(Outcome::Replayed), &b"1"[..]));
    assert_eq!(node.runs(), 1);
}

async fn assert_conflict(node: &Node, rejection: Rejection) {
    let again = node.again().await;
    assert_eq!((again.outcome, again.rejection), (Some(Outcome::Conflict), Some(rejection)));
    assert_eq!(node.runs(), 1);
}

async fn assert_runs_again(node: &Node) {
    let again = node.again().await;
    assert_eq!((again.outcome, node.runs()), (Some(Outcome::Executed), 2));
}

#[tokio::test]
async fn a_kept_failure_is_recorded() {
    let node = Node::new();
    let first = node.send(request("k-1", "one"), Run::keep, FAILED).await.unwrap();
    assert_eq!((first.status, first.outcome), (StatusCode::INTERNAL_SERVER_ERROR, Some(Outcome::Executed)));
    assert_replays(&node, StatusCode::INTERNAL_SERVER_ERROR).await;
}

#[tokio::test]
async fn a_kept_run_without_a_response_leaves_its_outcome_unknown() {
    for word in [Run::keep, Run::keep_without_body] {
        for end in [End::Panic, End::Error] {
            let node = Node::new();
            assert!(node.send(request("k-1", "one"), word, end).await.is_none());
            assert_conflict(&node, Rejection::OutcomeUnknown).await;
        }
    }
}

#[tokio::test]
async fn a_response_body_that_fails_gives_its_key_back_unless_the_run_is_kept() {
    for (word, outcome, again) in [
        ((|_| {}) as fn(&Run), Outcome::Released, Outcome::Executed),
        (Run::keep, Outcome::Executed, Outcome::Conflict),
    ] {
        let node = Node::new();
        let inner = InnerService::answering(move |parts, _| {
            word(parts.extensions.get().unwrap());
            let (sender, body) = Channel::<Bytes>::new(1);
            drop(sender);
            Response::builder().header("content-length", "9").body(body).unwrap()
        });
        let first = node.layer.layer(inner).oneshot(request("k-1", "one")).await.unwrap();
        assert_eq!(first.extensions().get(), Some(&outcome));
        assert_eq!(node.again().await.outcome, Some(again));
    }
}

#[tokio::test]
async fn a_run_kept_without_its_body_leaves_a_tombstone() {
    for end in [CREATED, FAILED] {
        let node = Node::new();
        let first = node.send(request("k-1", "one"), Run::keep_without_body, end).await.unwrap();
        assert_eq!((first.outcome, &*first.body), (Some(Outcome::Executed), &b"1"[..]));
        let Some(Entry::Completed(record)) = node.backend.inner().get(&Key::new("", "k-1")).await.unwrap() else {
            panic!("no record")
        };
        assert_eq!(record, tower_idempotency::Record::tombstone(&record.fingerprint()));
        assert_conflict(&node, Rejection::NotKept).await;
    }
}

#[tokio::test]
async fn a_released_run_gives_its_key_back_and_its_response_passes() {
    for node in [Node::new(), Node::at_most_once()] {
        let first = node.send(request("k-1", "one"), Run::release, CREATED).await.unwrap();
        assert_eq!((first.status, first.outcome), (StatusCode::CREATED, Some(Outcome::Released)));
        assert!(!first.headers.contains_key("idempotency-stored"));
        assert_runs_again(&node).await;
    }
}

#[tokio::test]
async fn each_layer_around_a_handler_hears_what_it_says() {
    let inner = IdempotencyLayer::new(MemoryBackend::new());
    let outer = inner.clone().namespace("outer");
    for (key, word, outcome) in [
        ("k-1", Run::keep_without_body as fn(&Run), Outcome::Conflict),
        ("k-2", Run::release, Outcome::Released),
        ("k-3", Run::keep, Outcome::Replayed),
    ] {
        let handler = InnerService::answering(move |parts, _| {
            word(parts.extensions.get().unwrap());
            let failed = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
            failed.body(Full::<Bytes>::from("a secret")).unwrap()
        });
        let service = outer.layer(inner.layer(handler));
        assert_eq!(service.clone().oneshot(request(key, "one")).await.unwrap().status(), 500);
        let again = service.oneshot(request(key, "one")).await.unwrap();
        assert_eq!(again.extensions().get(), Some(&outcome), "{key}");
    }
}

#[tokio::test]
async fn a_released_run_that_fails_gives_its_key_back_also_at_most_once() {
    for end in [End::Panic, End::Error] {
        let node = Node::at_most_once();
        assert!(node.send(request("k-1", "one"), Run::release, end).await.is_none());
        assert_runs_again(&node).await;
    }
}

#[tokio::test]
async fn the_last_word_counts() {
    let node = Node::new();
    let fickle = |run: &Run| {
        run.release();
        run.keep_without_body();
        run.keep();
    };
    node.send(request("k-1", "one"), fickle, FAILED).await.unwrap();
    assert_replays(&node, StatusCode::INTERNAL_SERVER_ERROR).await;

    let node = Node::new();
    let fickle = |run: &Run| {
        run.keep();
        run.clone().release();
    };
    node.send(request("k-1", "one"), fickle, CREATED).await.unwrap();
    assert_runs_again(&node).await;
}

/// A body of unknown length that panics after its first frame.
fn panicking_stream() -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static {
    let frames = ["one", "two"].into_iter().map(|data| match data {
        "one" => Ok(Frame::data(Bytes::from(data))),
        _ => panic!("the body panics"),
    });
    StreamBody::new(tokio_stream::iter(frames))
}

#[tokio::test]
async fn a_kept_run_whose_stream_panics_leaves_its_outcome_unknown() {
    let node = Node::new();
    let service = node.layer.layer(service_fn(async |request: Request<RequestBody<Full<Bytes>>>| {
        request.extensions().get::<Run>().unwrap().keep();
        Ok::<_, &str>(Response::new(panicking_stream()))
    }));
    let response = service.oneshot(request("k-1", "one")).await.unwrap();
    assert!(response.into_body().collect().await.is_err(), "the body is not whole");
    let again = node.again().await;
    assert_eq!((again.rejection, node.runs()), (Some(Rejection::OutcomeUnknown), 0));
}

fn panics() -> Result<Response<Full<Bytes>>, &'static str> {
    panic!("the handler panics")
}

#[tokio::test]
async fn a_kept_panic_is_kept_also_when_the_client_has_left() {
    let node = Node::new();
    let (spoke, spoken) = tokio::sync::oneshot::channel();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let channels = Arc::new(Mutex::new(Some((spoke, gone))));
    let service = node.layer.layer(service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let (spoke, gone) = channels.lock().unwrap().take().unwrap();
        async move {
            request.extensions().get::<Run>().unwrap().keep();
            spoke.send(()).unwrap();
            gone.await.expect("the client leaves");
            panics()
        }
    }));
    let first = tokio::spawn(service.oneshot(request("k-1", "one")));
    spoken.await.unwrap();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    go.send(()).unwrap();
    node.drained().await;
    let again = node.again().await;
    assert_eq!((again.rejection, node.runs()), (Some(Rejection::OutcomeUnknown), 0));
}

/// A client leaves a run whose handler has said `word`.
async fn leave(node: &Node, word: impl Fn(&Run) + Clone + Send + Sync + 'static) -> Probe {
    let inner = InnerService::answering(|_, _| Response::new(Full::<Bytes>::default()));
    let probe = inner.probe();
    let speaking = node.layer.layer(tower::util::MapRequest::new(inner, move |request: Request<_>| {
        word(request.extensions().get().unwrap());
        request
    }));
    probe.hold();
    let leaving = tokio::spawn(speaking.oneshot(request("k-1", "one")));
    probe.arrived(1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    node.drained().await;
    probe
}

fn cancelling(node: Node) -> Node {
    Node { layer: node.layer.clone().on_disconnect(OnDisconnect::Cancel), ..node }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_is_dropped_and_gives_its_key_back() {
    let node = cancelling(Node::new());
    let counts = leave(&node, |_| {}).await.counts();
    assert_eq!((counts.dropped, counts.finished, counts.live), (1, 0, 0));
    assert_eq!(node.backend.executed(Command::Release), 1);
    assert_eq!((node.again().await.outcome, node.runs()), (Some(Outcome::Executed), 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_that_is_kept_leaves_its_outcome_unknown() {
    for (node, word) in [(Node::at_most_once(), (|_| {}) as fn(&Run)), (Node::new(), Run::keep)] {
        let node = cancelling(node);
        assert_eq!(leave(&node, word).await.counts().dropped, 1);
        let again = node.again().await;
        assert_eq!((again.rejection, node.runs()), (Some(Rejection::OutcomeUnknown), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_client_left_before_it_began_is_not_called_when_it_would_be_cancelled() {
    let node = cancelling(Node::new());
    let inner = InnerService::new();
    let (probe, service) = (inner.probe(), node.layer.layer(inner));
    let claim = node.backend.hold(Command::Claim);
    let leaving = tokio::spawn(service.oneshot(request("k-1", "one")));
    claim.arrived().await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    claim.open();
    node.drained().await;
    assert_eq!((probe.counts().calls, node.backend.executed(Command::Release)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_every_live_run() {
    let node = Node::new();
    let (runs, inner) = (node.layer.runs(), InnerService::new());
    let (probe, service) = (inner.probe(), node.layer.layer(inner));
    runs.drain().await;
    probe.hold();
    let send = |key| tokio::spawn(service.clone().oneshot(request(key, "one")));
    let (abandoned, waited_for) = (send("k-1"), send("k-2"));
    probe.arrived(2).await;
    assert_eq!(runs.len(), 2);
    abandoned.abort();

    let draining = {
        let runs = runs.clone();
        tokio::spawn(tokio::time::timeout(Duration::from_secs(10), async move { runs.drain().await }))
    };
    let completion = node.backend.hold(Command::Complete);
    probe.open_one();
    completion.arrived().await;
    assert_eq!((runs.len(), draining.is_finished()), (2, false), "a run is live until its end is answered");
    completion.open();
    probe.open_all();
    draining.await.unwrap().expect("a run is left");
    assert!(runs.is_empty());
    assert_eq!(node.backend.executed(Command::Complete), 2);
    assert_eq!(waited_for.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_claims_whose_clients_have_left() {
    let node = Node::new();
    let (runs, inner) = (node.layer.runs(), InnerService::new());
    let (probe, service) = (inner.probe(), node.layer.layer(inner));
    let claim = node.backend.hold(Command::Claim);
    let leaving = tokio::spawn(service.oneshot(request("k-1", "one")));
    claim.arrived().await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    assert_eq!(runs.len(), 1);
    claim.open();
    node.drained().await;
    assert_eq!((probe.counts().finished, node.backend.executed(Command::Complete)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_that_do_not_run_are_not_counted() {
    let node = Node::new();
    node.again().await;
    node.again().await;
    node.send(request("k-1", "two"), |_| {}, CREATED).await.unwrap();
    node.backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    node.again().await;
    assert_eq!(node.layer.runs().len(), 0);
}

#[tokio::test]
async fn a_derived_key_is_the_same_in_every_run_of_its_key() {
    let node = Node::new();
    let derived = Arc::new(Mutex::new(Vec::new()));
    for key in ["k-1", "k-1", "k-2"] {
        let derived = Arc::clone(&derived);
        let speak = move |run: &Run| derived.lock().unwrap().push(run.derive(["stripe", "charge"]));
        node.send(request(key, "one"), speak, FAILED).await.unwrap();
    }
    let derived = derived.lock().unwrap();
    assert_eq!(derived[0], derived[1]);
    assert_ne!(derived[0], derived[2]);
}

#[tokio::test]
async fn every_guarded_response_tells_its_outcome() {
    let node = Node::new();
    let outcome = async |request, end| node.send(request, |_| {}, end).await.unwrap().outcome;
    assert_eq!(outcome(request("k-1", "one"), FAILED).await, Some(Outcome::Released));
    assert_eq!(outcome(request("k-1", "one"), CREATED).await, Some(Outcome::Executed));
    assert_eq!(outcome(request("k-1", "one"), CREATED).await, Some(Outcome::Replayed));
    assert_eq!(outcome(request("k-1", "two"), CREATED).await, Some(Outcome::Mismatch));
    assert_eq!(outcome(request("not valid", "one"), CREATED).await, Some(Outcome::Rejected));

    node.backend.on(Command::Claim).next(Fault::ErrorBefore(BackendErrorKind::Full));
    assert_eq!(outcome(request("k-2", "one"), CREATED).await, Some(Outcome::Rejected));
    node.backend.on(Command::Complete).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    assert_eq!(outcome(request("k-3", "one"), CREATED).await, Some(Outcome::NotStored));
    assert_eq!(outcome(request("k-3", "one"), CREATED).await, Some(Outcome::Conflict));

    let mut bypassed = request("k-1", "one");
    *bypassed.method_mut() = http::Method::PUT;
    assert_eq!(outcome(bypassed, CREATED).await, None);
}
