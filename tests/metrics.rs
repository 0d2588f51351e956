//! The figures that operators see, by their table in the documentation. On tokio's paused clock.
#![cfg(all(feature = "memory", feature = "metrics", feature = "test-util"))]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::identity,
    io,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use tokio::{task::JoinHandle, time::sleep};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, BackendErrorKind, BackendFailure, BodyHash, Claim, Deduplicator, Fingerprint, Idempotency,
    IdempotencyLayer, Key, MemoryBackend, OnDisconnect, Processed, Run, Token,
    testing::{Command, Fault, FaultyBackend, InnerError, InnerService, Probe, Reaction},
};

#[path = "support/docs.rs"]
mod docs;

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

type Faulty = FaultyBackend<MemoryBackend>;
type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Result<Response<tower_idempotency::ResponseBody<Full<Bytes>>>, InnerError>;

/// What a recorder has been told since it was installed.
struct Figures {
    snapshotter: Snapshotter,
    values: BTreeMap<String, Value>,
    /// Name, type, unit and labels.
    forms: BTreeSet<(String, String, String, Vec<String>)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Samples(Vec<f64>),
}

impl Figures {
    fn of(recorder: &DebuggingRecorder) -> Self {
        Self { snapshotter: recorder.snapshotter(), values: BTreeMap::new(), forms: BTreeSet::new() }
    }

    /// Looks once more: a snapshot tells what is new since the last one.
    fn look(&mut self) -> &mut Self {
        for (key, unit, _, value) in self.snapshotter.snapshot().into_vec() {
            let kind = match key.kind() {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            let (_, key) = key.into_parts();
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let names = key.labels().map(|label| label.key().to_owned()).collect();
            let unit = unit.expect("a figure is described").as_str().to_owned();
            self.forms.insert((key.name().to_owned(), kind.to_owned(), unit, names));
            let name = format!("{}{{{}}}", key.name(), labels.join(","));
            match (value, self.values.get_mut(&name)) {
                (DebugValue::Counter(more), Some(Value::Number(sum))) => *sum += more as f64,
                (DebugValue::Gauge(more), Some(Value::Number(sum))) => *sum += more.0,
                (DebugValue::Histogram(more), Some(Value::Samples(all))) => all.extend(more.iter().map(|v| v.0)),
                (DebugValue::Counter(value), _) => drop(self.values.insert(name, Value::Number(value as f64))),
                (DebugValue::Gauge(value), _) => drop(self.values.insert(name, Value::Number(value.0))),
                (DebugValue::Histogram(values), _) => {
                    self.values.insert(name, Value::Samples(values.iter().map(|value| value.0).collect()));
                }
            }
        }
        self
    }

    /// The sum of a counter, or the level of a gauge, over all that have `name` and `label`.
    fn number(&mut self, name: &str, label: &str) -> f64 {
        let values = self.look().values.iter().filter(|(key, _)| key.starts_with(&format!("{name}{{")));
        let values = values.filter(|(key, _)| key.contains(label));
        values.map(|(_, value)| if let Value::Number(number) = value { *number } else { f64::NAN }).sum()
    }

    fn outcomes(&mut self) -> BTreeMap<String, f64> {
        let outcome = |(key, value): (&String, &Value)| {
            let (_, outcome) = key.trim_end_matches('}').split_once("outcome=")?;
            if let Value::Number(count) = value { Some((outcome.to_owned(), *count)) } else { None }
        };
        self.look().values.iter().filter_map(outcome).filter(|(_, count)| *count > 0.0).collect()
    }

    fn samples(&mut self, name: &str) -> Vec<f64> {
        match self.look().values.get(&format!("{name}{{kind=http,namespace=orders}}")) {
            Some(Value::Samples(samples)) => samples.clone(),
            _ => Vec::new(),
        }
    }
}

/// A layer of the namespace `orders` in front of a service under control.
struct Node {
    backend: Faulty,
    service: Idempotency<InnerService, Faulty>,
    handler: Probe,
}

impl Node {
    fn new(change: impl FnOnce(IdempotencyLayer<Faulty>) -> IdempotencyLayer<Faulty>) -> Self {
        Self::in_front_of(InnerService::new(), change)
    }

    fn in_front_of(
        inner: InnerService,
        change: impl FnOnce(IdempotencyLayer<Faulty>) -> IdempotencyLayer<Faulty>,
    ) -> Self {
        let backend = FaultyBackend::new(MemoryBackend::new());
        let handler = inner.probe();
        let layer = change(IdempotencyLayer::new(backend.clone()).namespace("orders"));
        Self { backend, service: layer.layer(inner), handler }
    }

    fn send(&self, request: Request<Body>) -> JoinHandle<Answer> {
        tokio::spawn(self.service.clone().oneshot(request))
    }

    async fn answer(&self, request: Request<Body>) -> StatusCode {
        self.send(request).await.unwrap().unwrap().status()
    }

    /// Sends a request whose handler is held from now on.
    async fn hold(&self, request: Request<Body>) -> JoinHandle<Answer> {
        self.handler.hold();
        let first = self.send(request);
        self.handler.arrived(1).await;
        first
    }
}

fn whole(body: &'static str) -> Body {
    Full::from(body).map_err(|never| match never {}).boxed_unsync()
}

fn post(headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let request = Request::post("http://localhost/");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(body).unwrap()
}

fn keyed() -> Request<Body> {
    post(&[("idempotency-key", "k-1")], whole("one"))
}

fn failing() -> InnerService {
    InnerService::answering(|_, _| Response::builder().status(500).body(Full::default()).unwrap())
}

/// A service whose handler says `word` of its run.
fn saying(word: impl Fn(&Run) + Send + Sync + 'static) -> InnerService {
    InnerService::answering(move |parts, _| {
        word(parts.extensions.get::<Run>().expect("the request is guarded"));
        Response::new(Full::from("done"))
    })
}

/// Installs a recorder for what follows on this thread.
macro_rules! record {
    ($figures:ident) => {
        let recorder = DebuggingRecorder::new();
        let mut $figures = Figures::of(&recorder);
        let _installed = metrics::set_default_local_recorder(&recorder);
    };
}

/// How often each outcome was counted while `drive` drove a layer.
async fn outcome_of<F: Future<Output = ()>>(drive: impl FnOnce() -> F) -> BTreeMap<String, f64> {
    record!(figures);
    drive().await;
    figures.outcomes()
}

fn counts(counts: &[(&str, f64)]) -> BTreeMap<String, f64> {
    counts.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect()
}

#[tokio::test(start_paused = true)]
async fn runs_are_counted_by_their_outcome() {
    let seen = outcome_of(|| async {
        let node = Node::new(identity);
        assert_eq!(node.answer(keyed()).await, 200);
        assert_eq!(node.answer(keyed()).await, 200);
        assert_eq!(node.answer(keyed()).await, 200);
    });
    assert_eq!(seen.await, counts(&[("executed", 1.0), ("replayed", 2.0)]));

    let seen = outcome_of(|| async {
        assert_eq!(Node::in_front_of(failing(), identity).answer(keyed()).await, 500);
    });
    assert_eq!(seen.await, counts(&[("released", 1.0)]));

    let seen = outcome_of(|| async {
        let node = Node::new(identity);
        node.backend.on(Command::Complete).always(Fault::LoseRequest);
        assert_eq!(node.answer(keyed()).await, 200);
    });
    assert_eq!(seen.await, counts(&[("not_stored", 1.0)]));

    let seen = outcome_of(|| async {
        let node = Node::new(identity);
        node.handler.next(Reaction::Fail);
        assert!(node.send(keyed()).await.unwrap().is_err());
    });
    assert_eq!(seen.await, counts(&[("failed", 1.0)]));

    let seen = outcome_of(|| async {
        let node = Node::new(identity);
        node.handler.next(Reaction::Panic);
        assert!(node.send(keyed()).await.unwrap_err().is_panic());
    });
    assert_eq!(seen.await, counts(&[("panicked", 1.0)]));
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_their_reason() {
    let seen = outcome_of(|| async {
        let node = Node::new(identity);
        let first = node.hold(keyed()).await;
        assert_eq!(node.answer(keyed()).await, 409);
        node.handler.open_all();
        first.await.unwrap().unwrap();
        assert_eq!(node.answer(post(&[("idempotency-key", "k-1")], whole("two"))).await, 422);
        let other = post(&[("idempotency-key", "k-1"), ("authorization", "Bearer t-2")], whole("one"));
        assert_eq!(node.answer(other).await, 422);
    });
    assert_eq!(
        seen.await,
        counts(&[("executed", 1.0), ("in_progress", 1.0), ("mismatch", 1.0), ("credentials_differ", 1.0)])
    );

    let seen = outcome_of(|| async {
        let node = Node::in_front_of(saying(Run::keep_without_body), identity);
        assert_eq!(node.answer(keyed()).await, 200);
        assert_eq!(node.answer(keyed()).await, 409);
    });
    assert_eq!(seen.await, counts(&[("executed", 1.0), ("not_kept", 1.0)]));

    let seen = outcome_of(|| async {
        let node = Node::new(IdempotencyLayer::at_most_once);
        node.handler.next(Reaction::Fail);
        assert!(node.send(keyed()).await.unwrap().is_err());
        assert_eq!(node.answer(keyed()).await, 409);
    });
    assert_eq!(seen.await, counts(&[("failed", 1.0), ("outcome_unknown", 1.0)]));

    let seen = outcome_of(|| async {
        let node = Node::new(identity);
        node.backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
        assert_eq!(node.answer(keyed()).await, 503);
    });
    assert_eq!(seen.await, counts(&[("backend_unavailable", 1.0)]));
}

#[tokio::test(start_paused = true)]
async fn invalid_requests_are_counted_by_their_fault() {
    let seen = outcome_of(|| async {
        let node =
            Node::new(|layer| layer.require_key().limits(8, 8).scope(|parts| parts.headers.get("user").cloned()));
        let key = ("idempotency-key", "k-1");
        let user = ("user", "ann");
        assert_eq!(node.answer(post(&[], whole("one"))).await, 400);
        assert_eq!(node.answer(post(&[("idempotency-key", "a b")], whole("one"))).await, 400);
        assert_eq!(node.answer(post(&[key, ("idempotency-key", "k-2")], whole("one"))).await, 400);
        assert_eq!(node.answer(post(&[key], whole("one"))).await, 401);
        assert_eq!(node.answer(post(&[key, user], whole("more than eight"))).await, 413);
        let broken = StreamBody::new(tokio_stream::once(Err(io::Error::other("cut"))));
        assert_eq!(node.answer(post(&[key, user], broken.boxed_unsync())).await, 400);
        let endless = StreamBody::new(tokio_stream::pending());
        assert_eq!(node.answer(post(&[key, user], endless.boxed_unsync())).await, 408);
    });
    let faults = ["key_missing", "key_invalid", "key_ambiguous", "scope_missing", "body_too_large"];
    let faults = faults.into_iter().chain(["body_unreadable", "body_timed_out"]);
    assert_eq!(seen.await, counts(&faults.map(|fault| (fault, 1.0)).collect::<Vec<_>>()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_counted_by_what_becomes_of_its_request() {
    let seen = outcome_of(|| async {
        let node = Node::new(|layer| layer.wait(LEASE));
        let first = node.hold(keyed()).await;
        let waiter = node.send(keyed());
        sleep(SECOND).await;
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        node.handler.open_all();
        sleep(SECOND).await;
    });
    assert_eq!(seen.await, counts(&[("abandoned", 1.0), ("executed", 1.0)]));

    let seen = outcome_of(|| async {
        let node = Node::new(|layer| layer.on_disconnect(OnDisconnect::Cancel));
        let first = node.hold(keyed()).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        sleep(SECOND).await;
    });
    assert_eq!(seen.await, counts(&[("released", 1.0)]));
}

#[tokio::test(start_paused = true)]
async fn a_bypassed_request_is_not_counted() {
    record!(figures);
    let node = Node::new(identity);
    assert_eq!(node.answer(post(&[], whole("one"))).await, 200);
    let node = Node::new(|layer| layer.or_body_hash(BodyHash::any_caller(SECOND)));
    assert_eq!(node.answer(post(&[], whole(""))).await, 200);
    assert!(figures.look().values.values().all(|value| *value == Value::Number(0.0)), "{:?}", figures.values);
}

/// The counters of a page that Prometheus reads, by name and labels.
fn counters(page: &str) -> BTreeMap<String, u64> {
    let counters = page.lines().filter_map(|line| line.rsplit_once(' ').filter(|(name, _)| name.contains("_total{")));
    counters.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// Every counter that the documentation has, with the labels of one layer or deduplicator.
fn documented_counters(kind: &str, namespace: &str) -> BTreeSet<String> {
    let labels = format!("kind=\"{kind}\",namespace=\"{namespace}\"");
    let rows = docs::table("outcome");
    let outcomes = rows.iter().flat_map(|row| row[0].split(", "));
    let requests = outcomes.map(|outcome| format!("idempotency_requests_total{{{labels},outcome=\"{outcome}\"}}"));
    let others = ["idempotency_unprotected_total", "idempotency_leases_lost_total"];
    requests.chain(others.map(|name| format!("{name}{{{labels}}}"))).collect()
}

/// `rate` and `increase` see the first event of a counter only if it was there before.
#[tokio::test(start_paused = true)]
async fn counters_are_zero_before_the_first_request() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let layer = IdempotencyLayer::new(MemoryBackend::new()).namespace("orders").require_key();
    let page = || recorder.handle().render();
    assert_eq!(page(), "", "a layer whose settings are changed makes no service");
    let service = layer.layer(InnerService::new());
    let zeros = documented_counters("http", "orders").into_iter().map(|name| (name, 0));
    assert_eq!(counters(&page()), zeros.collect());
    let labels = "{kind=\"http\",namespace=\"orders\"}";
    assert!(page().contains(&format!("idempotency_runs{labels} 0\n")), "{}", page());
    assert!(page().contains(&format!("idempotency_waiters{labels} 0\n")), "{}", page());

    service.oneshot(keyed()).await.unwrap();
    drop(layer.layer(InnerService::new()));
    let executed = |name: &String| name.contains("outcome=\"executed\"");
    assert!(counters(&page()).iter().all(|(name, count)| *count == u64::from(executed(name))), "{}", page());
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_installed_after_the_layer_hears_of_all_counters_with_the_first_request() {
    let node = Node::new(identity);
    let recorder = PrometheusBuilder::new().build_recorder();
    let _installed = metrics::set_default_local_recorder(&recorder);
    assert_eq!(node.answer(keyed()).await, 200);
    let counters: BTreeSet<_> = counters(&recorder.handle().render()).into_keys().collect();
    assert_eq!(counters, documented_counters("http", "orders"));
}

#[tokio::test(start_paused = true)]
async fn counters_of_a_deduplicator_begin_with_its_first_message() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let deduplicator = Deduplicator::new(MemoryBackend::new()).namespace("billing");
    let during = recorder.handle();
    let seen = deduplicator.run("m-1", async move { Ok::<_, io::Error>(during.render()) }).await.unwrap();
    let Processed::Executed(page) = seen else { panic!("{seen:?}") };
    let zeros = documented_counters("message", "billing").into_iter().map(|name| (name, 0));
    assert_eq!(counters(std::str::from_utf8(&page).unwrap()), zeros.collect());
}

#[tokio::test(start_paused = true)]
async fn runs_and_waiters_are_counted_while_they_last() {
    record!(figures);
    let node = Node::new(|layer| layer.wait(LEASE));
    let first = node.hold(keyed()).await;
    let waiters = [node.send(keyed()), node.send(keyed())];
    sleep(3 * SECOND).await;
    assert_eq!((figures.number("idempotency_runs", ""), figures.number("idempotency_waiters", "")), (1.0, 2.0));

    waiters[0].abort();
    sleep(2 * SECOND).await;
    assert_eq!(figures.number("idempotency_waiters", ""), 1.0);
    node.handler.open_all();
    first.await.unwrap().unwrap();
    let [_left, waiter] = waiters;
    waiter.await.unwrap().unwrap();
    assert_eq!((figures.number("idempotency_runs", ""), figures.number("idempotency_waiters", "")), (0.0, 0.0));
    assert_eq!(figures.samples("idempotency_wait_seconds"), [3.0, 5.0]);
}

#[tokio::test(start_paused = true)]
async fn a_step_takes_as_long_as_the_client_waits_for_it() {
    record!(figures);
    let node = Node::new(identity);
    node.backend.on(Command::Claim).next(Fault::LoseReply);
    node.backend.on(Command::Complete).next(Fault::LoseReply);
    assert_eq!(node.answer(keyed()).await, 200);
    // Half of the time-out for the try that was lost, and none for the next.
    assert_eq!(figures.samples("idempotency_claim_seconds"), [0.5]);
    assert_eq!(figures.samples("idempotency_complete_seconds"), [0.5]);

    node.backend.on(Command::Claim).always(Fault::LoseRequest);
    assert_eq!(node.answer(keyed()).await, 503);
    assert_eq!(figures.samples("idempotency_claim_seconds"), [0.5, 1.0], "given up after the time-out");
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_record_is_measured() {
    record!(figures);
    let node = Node::new(identity);
    assert_eq!(node.answer(keyed()).await, 200);
    let stored = node.backend.get(&Key::new("orders", "k-1")).await.unwrap();
    let Some(tower_idempotency::Entry::Completed(record)) = stored else { panic!("no record: {stored:?}") };
    assert_eq!(figures.samples("idempotency_record_bytes"), [record.size() as f64]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_counted_once() {
    record!(figures);
    let node = Node::new(identity);
    let first = node.hold(keyed()).await;
    node.backend.on(Command::Renew).always(Fault::LoseRequest);
    sleep(2 * LEASE).await;
    assert_eq!(figures.number("idempotency_leases_lost_total", ""), 1.0);
    let (key, token) = (Key::new("orders", "k-1"), Token::random());
    let claim = node.backend.inner().claim(&key, token, &Fingerprint::of("another"), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Acquired);
    node.handler.open_all();
    assert_eq!(first.await.unwrap().unwrap().status(), 409);
    assert_eq!(figures.number("idempotency_leases_lost_total", ""), 1.0, "known before its end");
}

/// One that was not renewed in time, as when its node was stalled, hears of it when it completes.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_without_notice_is_counted() {
    record!(figures);
    let node = Node::new(identity);
    let first = node.hold(keyed()).await;
    let (key, token) = (Key::new("orders", "k-1"), Token::random());
    assert!(node.backend.inner().remove(&key).await.unwrap());
    node.backend.inner().claim(&key, token, &Fingerprint::of("another"), LEASE).await.unwrap();
    node.handler.open_all();
    assert_eq!(first.await.unwrap().unwrap().status(), 409);
    assert_eq!(figures.number("idempotency_leases_lost_total", ""), 1.0);
}

#[tokio::test(start_paused = true)]
async fn unprotected_requests_are_counted() {
    record!(figures);
    let node = Node::new(|layer| layer.on_backend_failure(BackendFailure::RunUnprotected));
    node.backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    assert_eq!(node.answer(keyed()).await, 200);
    assert_eq!(figures.number("idempotency_unprotected_total", ""), 1.0);
    assert_eq!(figures.outcomes(), counts(&[("not_stored", 1.0)]));
}

#[tokio::test(start_paused = true)]
async fn messages_are_counted_by_a_kind_of_their_own() {
    record!(figures);
    let deduplicator = Deduplicator::new(MemoryBackend::new()).namespace("billing");
    for _ in 0..2 {
        deduplicator.run("m-1", async { Ok::<_, io::Error>("done") }).await.unwrap();
    }
    let failed = deduplicator.run("m-2", async { Err::<&str, _>(io::Error::other("no")) }).await.unwrap_err();
    let nameless = deduplicator.run("", async { Ok::<_, io::Error>("done") }).await.unwrap_err();
    assert_eq!((failed.is_retryable(), nameless.is_retryable()), (true, false));
    let all = counts(&[("executed", 1.0), ("replayed", 1.0), ("failed", 1.0), ("key_missing", 1.0)]);
    assert_eq!(figures.outcomes(), all);
    let own = figures.number("idempotency_requests_total", "kind=message,namespace=billing");
    assert_eq!(own, all.values().sum::<f64>());
}

/// A handle that is kept from the first use on would go on counting for nobody.
#[tokio::test(start_paused = true)]
async fn figures_go_to_the_recorder_that_is_there() {
    let node = Node::new(identity);
    assert_eq!(node.answer(keyed()).await, 200);
    for _ in 0..2 {
        let recorder = DebuggingRecorder::new();
        let _installed = metrics::set_default_local_recorder(&recorder);
        assert_eq!(node.answer(keyed()).await, 200);
        assert_eq!(recorder.snapshotter().snapshot().into_vec().len(), 2, "a replay: its outcome and its claim");
    }
}

/// Drives all of it and compares with the documentation, in both directions.
#[tokio::test(start_paused = true)]
async fn the_table_names_each_figure_with_its_type_unit_and_labels() {
    record!(figures);
    let node = Node::new(|layer| layer.wait(LEASE).on_backend_failure(BackendFailure::RunUnprotected));
    let first = node.hold(keyed()).await;
    let waiter = node.send(keyed());
    node.backend.on(Command::Renew).always(Fault::LoseRequest);
    sleep(LEASE).await;
    node.handler.open_all();
    first.await.unwrap().unwrap();
    waiter.await.unwrap().unwrap();
    node.backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    assert_eq!(node.answer(post(&[("idempotency-key", "k-2")], whole("one"))).await, 200);

    let documented: BTreeSet<_> = docs::table("name")
        .into_iter()
        .map(|row| {
            let more = (!row[3].is_empty()).then(|| row[3].clone());
            let labels = ["kind".to_owned(), "namespace".to_owned()].into_iter().chain(more).collect();
            (row[0].clone(), row[1].clone(), row[2].clone(), labels)
        })
        .collect();
    assert_eq!(figures.look().forms, documented);
}
