//! Requests that wait for the one that they repeat. On tokio's paused clock.
#![cfg(all(feature = "memory", feature = "test-util"))]

use std::{
    fmt::Debug,
    future::Ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_idempotency::{
    Backend, BackendError, BackendErrorKind, BackendFailure, Claim, Entry, Fingerprint, Idempotency, IdempotencyLayer,
    Key, MemoryBackend, Ownership, Record, Rejection, RequestBody, Token,
    testing::{Command, Fault, FaultyBackend, InnerService, Probe},
};

const MAX: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(1);
const SEATS: usize = 1024;

type Faulty = FaultyBackend<MemoryBackend>;

fn setup(inner: InnerService) -> (Faulty, Idempotency<InnerService, Faulty>, Probe) {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let probe = inner.probe();
    (backend.clone(), IdempotencyLayer::new(backend).wait(MAX).layer(inner), probe)
}

/// A service whose first runs, `failures` of them, answer 500. The bodies are the numbers of the runs.
fn failing(failures: usize) -> InnerService {
    let runs = AtomicUsize::new(0);
    InnerService::answering(move |_, _| {
        let run = 1 + runs.fetch_add(1, Ordering::Relaxed);
        let status = if run <= failures { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        Response::builder().status(status).body(Full::from(run.to_string())).unwrap()
    })
}

fn request(key: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post("http://localhost/").header("idempotency-key", key).body(Full::from(body)).unwrap()
}

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: StatusCode,
    rejection: Option<Rejection>,
    replayed: bool,
    body: Bytes,
}

impl Answer {
    fn replay(body: &'static str) -> Self {
        Self { status: StatusCode::OK, rejection: None, replayed: true, body: Bytes::from(body) }
    }
}

/// Sends a request in a task of its own.
fn send<S, R>(service: &S, request: Request<Full<Bytes>>) -> JoinHandle<Answer>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Debug + Send,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Debug,
{
    let service = service.clone();
    tokio::spawn(async move {
        let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
        Answer {
            status: parts.status,
            rejection: parts.extensions.get().copied(),
            replayed: parts.headers.contains_key("idempotent-replayed"),
            body: body.collect().await.unwrap().to_bytes(),
        }
    })
}

/// Lets all tasks go as far as they can while no time passes.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn key() -> Key {
    Key::new("", "k-1")
}

/// The fingerprint of the request with `body`, as any node sees it.
async fn fingerprint(body: &'static str) -> Fingerprint {
    let backend = MemoryBackend::new();
    let service = IdempotencyLayer::new(backend.clone()).layer(InnerService::new());
    send(&service, request("k-1", body)).await.unwrap();
    match backend.get(&key()).await.unwrap() {
        Some(Entry::Completed(record)) => record.fingerprint(),
        other => panic!("no record: {other:?}"),
    }
}

/// Another node begins to run the request with `fingerprint`; `None` when somebody holds its key.
async fn run_elsewhere(backend: &Faulty, fingerprint: Fingerprint) -> Option<Token> {
    let token = Token::random();
    let claim = backend.inner().claim(&key(), token, &fingerprint, LEASE).await.unwrap();
    (claim == Claim::Acquired).then_some(token)
}

#[tokio::test(start_paused = true)]
async fn the_1025th_waiter_gets_409_at_once() {
    let (backend, service, probe) = setup(InnerService::new());
    probe.hold();
    let first = send(&service, request("k-1", "one"));
    probe.arrived(1).await;

    let mut waiters: Vec<_> = (0..SEATS).map(|_| send(&service, request("k-1", "one"))).collect();
    settle().await;
    assert_eq!(backend.sent(Command::Wait), SEATS);
    let began = Instant::now();
    let refused = send(&service, request("k-1", "one")).await.unwrap();
    assert_eq!((refused.rejection, Instant::now()), (Some(Rejection::InProgress), began));

    // A place is free again as soon as somebody leaves.
    waiters.pop().unwrap().abort();
    settle().await;
    waiters.push(send(&service, request("k-1", "one")));
    settle().await;
    assert_eq!(backend.sent(Command::Wait), SEATS + 1);

    probe.open_all();
    assert!(!first.await.unwrap().replayed);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Answer::replay("1"));
    }
    assert_eq!((probe.counts().started, Instant::now()), (1, began), "woken, not polling");
}

#[tokio::test(start_paused = true)]
async fn waiters_that_hang_up_leave_nothing() {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    let (backend, service, probe) = setup(InnerService::new());
    probe.hold();
    let first = send(&service, request("k-1", "one"));
    probe.arrived(1).await;
    settle().await;
    let (tasks, commands) = (Handle::current().metrics().num_alive_tasks(), backend.log().len());

    // Whoever could still wake a waiter holds its waker.
    let wakers = Arc::new(Nobody);
    let waker = Waker::from(Arc::clone(&wakers));
    for _ in 0..2 {
        let mut waiters: Vec<_> =
            (0..SEATS).map(|_| Box::pin(service.clone().oneshot(request("k-1", "one")))).collect();
        // tokio lets one task do only so much at a time, unless it is asked not to.
        tokio::task::unconstrained(async {
            for waiter in &mut waiters {
                assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
        })
        .await;
        assert!(Arc::strong_count(&wakers) >= 2 + SEATS);
        assert_eq!(probe.counts().ready, 0);
        drop(waiters);
        assert_eq!(Arc::strong_count(&wakers), 2, "only this test holds it");
    }
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    assert_eq!(backend.log().len(), commands + 2 * 2 * SEATS, "a claim and a wait of each, and nothing else");
    assert_eq!((backend.sent(Command::Claim), backend.sent(Command::Wait)), (1 + 2 * SEATS, 2 * SEATS));

    probe.open_all();
    assert_eq!(first.await.unwrap().body, "1");
    assert_eq!(send(&service, request("k-1", "one")).await.unwrap(), Answer::replay("1"));
    assert_eq!(probe.counts().started, 1);
}

#[tokio::test(start_paused = true)]
async fn while_runs_fail_one_waiter_at_a_time_takes_over() {
    const FAILURES: usize = 5;
    let (backend, service, probe) = setup(failing(FAILURES));
    probe.hold();
    let waiters: Vec<_> = (0..100).map(|_| send(&service, request("k-1", "one"))).collect();
    for run in 1..=FAILURES + 1 {
        probe.arrived(1).await;
        settle().await;
        let counts = probe.counts();
        assert_eq!((counts.started, counts.held, counts.ready), (run, 1, 0));
        probe.open_one();
    }
    let mut answers = Vec::new();
    for waiter in waiters {
        answers.push(waiter.await.unwrap());
    }
    let failed = answers.iter().filter(|answer| answer.status == StatusCode::INTERNAL_SERVER_ERROR).count();
    let last = answers.iter().filter(|answer| answer.status == StatusCode::OK && !answer.replayed).count();
    let replays = answers.iter().filter(|answer| **answer == Answer::replay("6")).count();
    assert_eq!((failed, last, replays), (FAILURES, 1, 94));
    assert_eq!((probe.counts().started, backend.sent(Command::Complete)), (FAILURES + 1, 1));
}

#[tokio::test(start_paused = true)]
async fn waiters_do_not_delay_another_key_under_a_concurrency_limit() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let inner = InnerService::new();
    let probe = inner.probe();
    let limited = ConcurrencyLimitLayer::new(1).layer(inner);
    let service = IdempotencyLayer::new(backend.clone()).wait(MAX).layer(limited);

    let elsewhere = run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    let waiters: Vec<_> = (0..20).map(|_| send(&service, request("k-1", "one"))).collect();
    settle().await;
    assert_eq!(backend.sent(Command::Wait), 20);
    let began = Instant::now();
    assert_eq!(send(&service, request("k-2", "two")).await.unwrap().body, "1");
    assert_eq!(Instant::now(), began);

    backend.inner().release(&key(), elsewhere).await.unwrap();
    let mut bodies = Vec::new();
    for waiter in waiters {
        bodies.push(waiter.await.unwrap().body);
    }
    assert_eq!(bodies, ["2"; 20]);
    assert_eq!((probe.counts().started, Instant::now()), (2, began));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_ready_before_it_claims() {
    let (backend, service, probe) = setup(InnerService::new());
    let elsewhere = run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    let waiter = send(&service, request("k-1", "one"));
    settle().await;
    assert_eq!(probe.counts().ready, 0, "its readiness was given back");
    probe.set_busy(true);
    backend.inner().release(&key(), elsewhere).await.unwrap();
    settle().await;
    let elsewhere = run_elsewhere(&backend, fingerprint("one").await)
        .await
        .expect("a waiter without its service does not hold the key");

    probe.set_busy(false);
    settle().await;
    assert_eq!((backend.sent(Command::Wait), probe.counts().ready), (2, 0), "it waits again");
    backend.inner().release(&key(), elsewhere).await.unwrap();
    assert_eq!(waiter.await.unwrap().body, "1");
    assert_eq!((probe.counts().started, probe.counts().violations), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_409_after_its_max() {
    let (backend, service, probe) = setup(InnerService::new());
    let elsewhere = run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    let began = Instant::now();
    assert_eq!(send(&service, request("k-1", "one")).await.unwrap().rejection, Some(Rejection::InProgress));
    assert_eq!(began.elapsed(), MAX);

    // Time spent on getting ready counts.
    let waiter = send(&service, request("k-1", "one"));
    settle().await;
    probe.set_busy(true);
    backend.inner().release(&key(), elsewhere).await.unwrap();
    assert_eq!(waiter.await.unwrap().rejection, Some(Rejection::InProgress));
    assert_eq!((began.elapsed(), probe.counts().calls), (2 * MAX, 0));
    assert!(run_elsewhere(&backend, fingerprint("one").await).await.is_some(), "it has left the key free");
}

#[tokio::test(start_paused = true)]
async fn a_max_counts_over_several_runs() {
    let (backend, service, _) = setup(InnerService::new());
    let same = fingerprint("one").await;
    let mut elsewhere = run_elsewhere(&backend, same).await.unwrap();
    let began = Instant::now();
    let waiter = send(&service, request("k-1", "one"));
    for _ in 0..4 {
        settle().await;
        tokio::time::advance(MAX / 5).await;
        backend.inner().release(&key(), elsewhere).await.unwrap();
        elsewhere = run_elsewhere(&backend, same).await.unwrap();
    }
    assert_eq!(waiter.await.unwrap().rejection, Some(Rejection::InProgress));
    assert_eq!(began.elapsed(), MAX);
}

#[tokio::test(start_paused = true)]
async fn a_mismatch_does_not_wait() {
    let (backend, service, _) = setup(InnerService::new());
    run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    let began = Instant::now();
    assert_eq!(send(&service, request("k-1", "two")).await.unwrap().rejection, Some(Rejection::Mismatch));
    assert_eq!((began.elapsed(), backend.sent(Command::Wait)), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_key_goes_to_another_request_gets_422() {
    let (backend, service, probe) = setup(InnerService::new());
    let (same, another) = (fingerprint("one").await, fingerprint("two").await);
    let elsewhere = run_elsewhere(&backend, same).await.unwrap();
    let waiter = send(&service, request("k-1", "one"));
    settle().await;
    backend.inner().release(&key(), elsewhere).await.unwrap();
    let elsewhere = run_elsewhere(&backend, another).await.unwrap();
    settle().await;
    let record = Record::value(&another, b"done");
    assert_eq!(backend.inner().complete(&key(), elsewhere, &record, LEASE).await.unwrap(), Ownership::Held);
    assert_eq!(waiter.await.unwrap().rejection, Some(Rejection::Mismatch));
    assert_eq!(probe.counts().started, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_left_does_not_wait() {
    let (backend, service, probe) = setup(InnerService::new());
    run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    let claim = backend.hold(Command::Claim);
    let leaving = send(&service, request("k-1", "one"));
    claim.arrived().await;
    leaving.abort();
    settle().await;
    claim.open();
    settle().await;
    assert_eq!((backend.executed(Command::Claim), backend.sent(Command::Wait)), (1, 0));
    assert_eq!(probe.counts().ready, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_while_it_takes_over_is_moved_to_the_runtime() {
    let (backend, service, probe) = setup(InnerService::new());
    let elsewhere = run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    let leaving = send(&service, request("k-1", "one"));
    settle().await;
    let claim = backend.hold(Command::Claim);
    backend.inner().release(&key(), elsewhere).await.unwrap();
    claim.arrived().await;
    leaving.abort();
    settle().await;
    claim.open();
    probe.when(|counts| counts.finished == 1).await;
    settle().await;
    assert_eq!(send(&service, request("k-1", "one")).await.unwrap(), Answer::replay("1"));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_a_wait_gets_its_request_503() {
    let (backend, service, probe) = setup(InnerService::new());
    run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    backend.on(Command::Wait).next(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    backend.on(Command::Wait).next(Fault::LoseReply);
    let began = Instant::now();
    assert_eq!(send(&service, request("k-1", "one")).await.unwrap().rejection, Some(Rejection::BackendUnavailable));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(send(&service, request("k-1", "one")).await.unwrap().rejection, Some(Rejection::BackendUnavailable));
    assert_eq!(began.elapsed(), MAX + TIMEOUT, "a silent backend is given time to say that the wait is over");
    assert_eq!(probe.counts().calls, 0);
}

/// Its own readiness was given back for the wait.
#[tokio::test(start_paused = true)]
async fn a_request_that_runs_unprotected_after_its_wait_failed_gets_its_service_ready_first() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    backend.on(Command::Wait).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    let layer = IdempotencyLayer::new(backend).wait(MAX).on_backend_failure(BackendFailure::RunUnprotected);
    let answer = send(&layer.layer(InnerService::new()), request("k-1", "one")).await.unwrap();
    assert_eq!((answer.status, answer.rejection, &*answer.body), (StatusCode::OK, None, &b"1"[..]));
}

/// The same as of one whose claim was not answered.
#[tokio::test(start_paused = true)]
async fn a_request_that_runs_unprotected_after_its_wait_failed_goes_on_without_its_client() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    backend.on(Command::Wait).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    let (inner, layer) = (InnerService::new(), IdempotencyLayer::new(backend).wait(MAX));
    let probe = inner.probe();
    probe.hold();
    let layer = layer.on_backend_failure(BackendFailure::RunUnprotected);
    let leaving = send(&layer.layer(inner), request("k-1", "one"));
    probe.arrived(1).await;
    leaving.abort();
    settle().await;
    probe.open_all();
    settle().await;
    assert_eq!(probe.counts().finished, 1);
}

/// Says too early that a run is over, like a store that reads from a replica.
struct Hasty(MemoryBackend);

impl Backend for Hasty {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        self.0.claim(key, token, of, lease).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.0.renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.0.complete(key, token, record, retention).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.0.release(key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.0.get(key).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.0.remove(key).await
    }

    async fn wait(&self, _: &Key, _: Instant) -> Result<Option<Entry>, BackendError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(None)
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_also_when_the_backend_says_too_early_that_the_key_is_free() {
    let memory = MemoryBackend::new();
    let one = fingerprint("one").await;
    assert_eq!(memory.claim(&key(), Token::random(), &one, LEASE).await.unwrap(), Claim::Acquired);
    let service = IdempotencyLayer::new(Hasty(memory)).wait(MAX).layer(InnerService::new());
    let began = Instant::now();
    assert_eq!(send(&service, request("k-1", "one")).await.unwrap().rejection, Some(Rejection::InProgress));
    assert!(began.elapsed() < MAX + TIMEOUT);
}

/// Ready once.
struct Once(bool);

impl Clone for Once {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<Request<RequestBody<Full<Bytes>>>> for Once {
    type Response = Response<Full<Bytes>>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(if self.0 { Ok(()) } else { Err("closed") })
    }

    fn call(&mut self, _: Request<RequestBody<Full<Bytes>>>) -> Self::Future {
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_get_ready_again_passes_its_error_on() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let elsewhere = run_elsewhere(&backend, fingerprint("one").await).await.unwrap();
    let service = IdempotencyLayer::new(backend.clone()).wait(MAX).layer(Once(true));
    let mut waiter = pin!(service.oneshot(request("k-1", "one")));
    assert!(waiter.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    backend.inner().release(&key(), elsewhere).await.unwrap();
    assert_eq!(waiter.await.unwrap_err(), "closed");
    assert!(run_elsewhere(&backend, fingerprint("one").await).await.is_some(), "the key is free");
}

#[test]
#[should_panic = "a wait of 0ns is too short"]
fn a_wait_of_no_time_is_refused() {
    let _ = IdempotencyLayer::new(MemoryBackend::new()).wait(Duration::ZERO);
}
