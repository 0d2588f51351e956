//! The layer over a backend that fails: lost and late commands, lost leases, stalls. On tokio's paused clock.
#![cfg(all(feature = "memory", feature = "test-util"))]

use std::{convert::identity, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    runtime::{Builder, Handle},
    task::{JoinHandle, yield_now},
    time::{Instant, advance, sleep},
};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, BackendErrorKind, Claim, Fingerprint, Idempotency, IdempotencyLayer, Key, MemoryBackend, Record, Token,
    protocol::{Protocol, Terms},
    testing::{Command, Fault, FaultyBackend, InnerService, Probe, Reaction},
};

const LEASE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(1);
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

type Faulty = FaultyBackend<MemoryBackend>;

/// A node: a layer over a backend that it may share with other nodes, and its handler.
struct Node {
    service: Idempotency<InnerService, Faulty>,
    handler: Probe,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Node {
    fn new(backend: &Faulty, change: impl FnOnce(IdempotencyLayer<Faulty>) -> IdempotencyLayer<Faulty>) -> Self {
        let inner = InnerService::new();
        let handler = inner.probe();
        Self { service: change(IdempotencyLayer::new(backend.clone())).layer(inner), handler }
    }

    /// Sends the one request of these tests, in a task of its own.
    fn send(&self) -> JoinHandle<Answer> {
        self.send_with("one")
    }

    /// The same with a body of its own.
    fn send_with(&self, body: &'static str) -> JoinHandle<Answer> {
        let service = self.service.clone();
        tokio::spawn(async move {
            let request = Request::post("http://localhost/").header("idempotency-key", "k-1");
            let response = service.oneshot(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() }
        })
    }

    async fn answer(&self) -> Answer {
        self.send().await.unwrap()
    }

    /// Sends the request, whose handler is held from now on.
    async fn hold(&self) -> JoinHandle<Answer> {
        self.handler.hold();
        let first = self.send();
        self.handler.arrived(1).await;
        first
    }

    /// Holds a run and keeps it from renewing its lease until that is over.
    async fn hold_past_lease(&self, backend: &Faulty) -> JoinHandle<Answer> {
        let first = self.hold().await;
        backend.on(Command::Renew).always(Fault::LoseRequest);
        sleep(2 * LEASE).await;
        first
    }

    fn runs(&self) -> usize {
        self.handler.counts().started
    }
}

impl Answer {
    fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }

    fn is_marked_not_stored(&self) -> bool {
        self.headers.get("idempotency-stored").is_some_and(|value| value == "false")
    }
}

fn setup() -> (Faulty, Node) {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let node = Node::new(&backend, identity);
    (backend, node)
}

fn key() -> Key {
    Key::new("", "k-1")
}

/// Another node claims the key; `None` when somebody holds it.
async fn claim_elsewhere(backend: &Faulty) -> Option<Token> {
    let token = Token::random();
    let claim = backend.inner().claim(&key(), token, &Fingerprint::of("another request"), LEASE).await.unwrap();
    (claim == Claim::Acquired).then_some(token)
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_was_lost_is_recognised() {
    let (backend, node) = setup();
    backend.on(Command::Claim).next(Fault::LoseReply);
    let begin = Instant::now();
    let answer = node.answer().await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "1"));
    assert_eq!((node.runs(), backend.sent(Command::Claim)), (1, 2));
    assert_eq!(begin.elapsed(), TIMEOUT / 2, "a try that was given up is followed by the next one at once");
    let log = backend.log();
    assert_eq!(log[0].token, log[1].token, "a retry carries the same token");
    assert!(node.answer().await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_claim_is_refused_within_the_timeout_and_released_behind() {
    let (backend, node) = setup();
    backend.on(Command::Claim).always(Fault::LoseReply);
    let begin = Instant::now();
    let answer = node.answer().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(begin.elapsed() <= TIMEOUT, "{:?}", begin.elapsed());
    assert_eq!(node.runs(), 0);

    // The claim was made all the same; without the release it would lock the key for the lease.
    sleep(TIMEOUT).await;
    assert!(claim_elsewhere(&backend).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_release_behind_a_refused_request_is_sent_until_it_is_answered() {
    let (backend, node) = setup();
    backend.on(Command::Claim).always(Fault::LoseReply);
    (0..5).for_each(|_| backend.on(Command::Release).next(Fault::LoseRequest));
    (0..3).for_each(|_| backend.on(Command::Release).next(Fault::ErrorBefore(BackendErrorKind::Unavailable)));
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(claim_elsewhere(&backend).await, None);
    sleep(LEASE / 2).await;
    assert!(claim_elsewhere(&backend).await.is_some());
    assert_eq!(backend.sent(Command::Release), 9 + 1, "and once more after its answer");
}

/// Commands of one process have ways of their own: behind a stall a release may come before its claim.
#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_after_its_release_does_not_lock_its_key() {
    let (backend, node) = setup();
    backend.on(Command::Claim).next(Fault::DelayRequest(TIMEOUT + TIMEOUT / 4));
    backend.on(Command::Claim).always(Fault::LoseRequest);
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    sleep(TIMEOUT / 2).await;
    assert_eq!((backend.executed(Command::Release), backend.executed(Command::Claim)), (1, 1));
    assert_eq!(claim_elsewhere(&backend).await, None, "the claim has come last");
    sleep(TIMEOUT).await;
    assert!(claim_elsewhere(&backend).await.is_some());
    assert_eq!(node.runs(), 0);
}

/// Errors that come at once do not use up the time-out.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_is_asked_three_times() {
    let (backend, node) = setup();
    backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    let begin = Instant::now();
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    // Two pauses, of 10 and 20 milliseconds at most, and none behind the last error.
    assert!(begin.elapsed() < Duration::from_millis(34), "{:?}", begin.elapsed());
    assert_eq!((node.runs(), backend.sent(Command::Claim)), (0, 3));
}

/// An error that is an answer is not asked for twice, and leaves nothing to release.
#[tokio::test(start_paused = true)]
async fn a_full_backend_refuses_at_once() {
    let (backend, node) = setup();
    backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Full));
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    sleep(LEASE).await;
    assert_eq!((node.runs(), backend.sent(Command::Claim), backend.sent(Command::Release)), (0, 1, 0));
}

/// What it says of a sending says nothing of an earlier one, which was not answered.
#[tokio::test(start_paused = true)]
async fn a_claim_that_a_full_backend_has_made_before_is_released_behind() {
    let (backend, node) = setup();
    backend.on(Command::Claim).next(Fault::LoseReply);
    backend.on(Command::Claim).next(Fault::ErrorBefore(BackendErrorKind::Full));
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    sleep(TIMEOUT).await;
    assert!(claim_elsewhere(&backend).await.is_some());
    assert_eq!((node.runs(), backend.executed(Command::Claim)), (0, 1));
}

/// The reply arrives when the lease may be over: a handler must not start on it. The claim is made again.
#[tokio::test(start_paused = true)]
async fn a_handler_does_not_start_on_a_lease_that_may_be_over() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let node = Node::new(&backend, |layer| layer.backend_timeout(4 * LEASE));
    backend.on(Command::Claim).next(Fault::DelayReply(LEASE));
    let answer = node.answer().await;
    assert_eq!((answer.status, node.runs()), (StatusCode::OK, 1));
    let log = backend.log();
    assert_eq!(
        log.iter().map(|sent| sent.command).collect::<Vec<_>>()[..3],
        [Command::Claim, Command::Release, Command::Claim]
    );
    assert_ne!(log[0].token, log[2].token, "a fresh claim carries a fresh token");
}

/// The private deadline counts from the first sending, however late the reply to a later one comes.
#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_the_first_sending() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let node = Node::new(&backend, |layer| layer.backend_timeout(LEASE * 19 / 10));
    backend.on(Command::Claim).next(Fault::LoseReply); // given up after 0.95 of the lease
    assert_eq!(node.answer().await.status, StatusCode::OK);
    let claims: Vec<_> = backend.log().into_iter().filter(|sent| sent.command == Command::Claim).collect();
    assert_eq!(claims.len(), 3);
    assert_eq!(claims[0].token, claims[1].token);
    assert_ne!(claims[1].token, claims[2].token);
    assert_eq!(node.runs(), 1);
}

/// The first sending reaches the backend after the release of its token, and then holds the key for nobody: no request
/// is in progress, so none is told so.
#[tokio::test(start_paused = true)]
async fn a_claim_that_meets_an_earlier_one_of_its_own_is_unavailable() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let node = Node::new(&backend, |layer| layer.backend_timeout(LEASE * 19 / 10));
    let given_up = LEASE * 19 / 20;
    backend.on(Command::Claim).next(Fault::DelayRequest(given_up + TIMEOUT));
    backend.on(Command::Claim).next(Fault::Pass);
    backend.on(Command::Claim).next(Fault::DelayRequest(2 * TIMEOUT));
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((node.runs(), backend.executed(Command::Claim)), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_went_to_another_request_while_its_claim_was_answered_is_that_ones() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let node = Node::new(&backend, |layer| layer.backend_timeout(4 * LEASE));
    backend.on(Command::Claim).next(Fault::DelayReply(LEASE + 2 * TIMEOUT));
    let late = node.send();
    sleep(LEASE + TIMEOUT).await;
    assert!(claim_elsewhere(&backend).await.is_some());
    assert_eq!(late.await.unwrap().status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(node.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_its_response_without_a_record_that_is_not_answered() {
    let (backend, node) = setup();
    (0..6).for_each(|_| backend.on(Command::Complete).next(Fault::LoseRequest));
    let begin = Instant::now();
    let answer = node.answer().await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "1"));
    assert!(answer.is_marked_not_stored());
    assert!(begin.elapsed() <= TIMEOUT, "{:?}", begin.elapsed());
    assert_eq!(node.answer().await.status, StatusCode::CONFLICT, "the key is still the run's");

    // Sending goes on behind, and the response is recorded after all.
    sleep(6 * TIMEOUT).await;
    let replay = node.answer().await;
    assert!(replay.is_replay() && !replay.is_marked_not_stored());
    assert_eq!((&*replay.body, node.runs()), ("1", 1));
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_reply_was_lost_is_stored_once() {
    let (backend, node) = setup();
    backend.on(Command::Complete).next(Fault::LoseReply);
    let answer = node.answer().await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.is_marked_not_stored());
    assert_eq!(backend.executed(Command::Complete), 2);
    assert!(node.answer().await.is_replay());
    assert_eq!(node.runs(), 1);
}

/// The lease is renewed until complete is answered: an outage that outlasts it does not run the key again.
#[tokio::test(start_paused = true)]
async fn renewals_go_on_while_complete_is_not_answered() {
    let (backend, node) = setup();
    backend.on(Command::Complete).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    assert!(node.answer().await.is_marked_not_stored());
    sleep(10 * LEASE).await;
    assert_eq!(claim_elsewhere(&backend).await, None);
    assert!(backend.executed(Command::Renew) >= 29, "{}", backend.executed(Command::Renew));
    backend.on(Command::Complete).clear();
    sleep(2 * TIMEOUT).await;
    assert!(node.answer().await.is_replay());
    let renewals = backend.sent(Command::Renew);
    sleep(10 * LEASE).await;
    assert_eq!((node.runs(), backend.sent(Command::Renew)), (1, renewals), "renewal ends with the run");
}

#[tokio::test(start_paused = true)]
async fn a_long_run_is_renewed_every_third_of_its_lease_by_one_command() {
    let (backend, node) = setup();
    let first = node.hold().await;
    sleep(10 * LEASE).await;
    assert_eq!(node.answer().await.status, StatusCode::CONFLICT);
    assert_eq!(backend.sent(Command::Renew), 30);
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
    assert!(node.answer().await.is_replay());
    assert_eq!(node.runs(), 1);
}

/// The renewer has looked after the claim was sent and before it was answered, and sleeps for longer.
#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_a_third_after_its_claim_was_sent_however_late_the_answer() {
    let (backend, node) = setup();
    assert_eq!(node.answer().await.status, StatusCode::OK);
    backend.inner().remove(&key()).await.unwrap();
    sleep(LEASE / 3 - Duration::from_millis(200)).await;
    backend.on(Command::Claim).next(Fault::DelayReply(Duration::from_millis(400)));
    let sent = Instant::now();
    let first = node.hold().await;
    sleep(LEASE / 3 + Duration::from_millis(100) - sent.elapsed()).await;
    assert_eq!(backend.sent(Command::Renew), 1);
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_dropped_leaves_no_task() {
    let (_backend, node) = setup();
    assert_eq!(node.answer().await.status, StatusCode::OK);
    drop(node);
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

/// The task that renews ends with the runtime on which the layer has been used first.
#[test]
fn leases_are_renewed_on_every_runtime() {
    let (backend, node) = setup();
    for run in 1..=2 {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let first = node.hold().await;
            sleep(LEASE / 2).await;
            assert_eq!(backend.sent(Command::Renew), run);
            node.handler.open_all();
            assert_eq!(first.await.unwrap().status, StatusCode::OK);
            backend.inner().remove(&key()).await.unwrap();
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_run_is_not_renewed() {
    let (backend, node) = setup();
    assert_eq!(node.answer().await.status, StatusCode::OK);
    sleep(10 * LEASE).await;
    assert_eq!(backend.log().iter().map(|sent| sent.command).collect::<Vec<_>>(), [Command::Claim, Command::Complete]);
}

/// Renewals are lost for less than a lease: nobody else gets the key.
#[tokio::test(start_paused = true)]
async fn lost_renewals_are_sent_again() {
    let (backend, node) = setup();
    let first = node.hold().await;
    (0..10).for_each(|_| backend.on(Command::Renew).next(Fault::LoseRequest));
    (0..4).for_each(|_| backend.on(Command::Renew).next(Fault::ErrorAfter(BackendErrorKind::Unavailable)));
    sleep(3 * LEASE).await;
    assert_eq!(claim_elsewhere(&backend).await, None);
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
}

/// A renewal is given a third of the lease at most, however long a request waits for the backend.
#[tokio::test(start_paused = true)]
async fn lost_renewals_are_sent_again_in_time_for_the_lease() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let node = Node::new(&backend, |layer| layer.backend_timeout(2 * LEASE));
    let first = node.hold().await;
    backend.on(Command::Renew).next(Fault::LoseRequest);
    sleep(LEASE + TIMEOUT).await;
    assert_eq!(claim_elsewhere(&backend).await, None);
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
}

/// A holder knows that its lease is lost before anybody else can have the key, also when renewals fail at once and the
/// pauses between them grow.
#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_renewed_is_lost_in_time() {
    for lease in [100, 135, 1_000, 3_000, 30_000].map(Duration::from_millis) {
        for _ in 0..20 {
            let backend = FaultyBackend::new(MemoryBackend::new());
            backend.on(Command::Renew).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
            let protocol = Arc::new(Protocol::new(Arc::new(backend.clone()), Terms { lease, ..Terms::default() }));
            let held = protocol.claim(&key(), &Fingerprint::of("one")).await.expect("the key is free");
            assert!(!held.is_lost());
            sleep(lease - lease / 20).await;
            assert_eq!(claim_elsewhere(&backend).await, None);
            assert!(held.is_lost(), "a lease of {lease:?} ends without its holder knowing");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_renewed_for_max_run_and_no_longer() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let node = Node::new(&backend, |layer| layer.max_run(3 * LEASE));
    let first = node.hold().await;
    sleep(3 * LEASE).await;
    assert_eq!(claim_elsewhere(&backend).await, None);
    sleep(LEASE).await;
    assert!(claim_elsewhere(&backend).await.is_some());
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::CONFLICT);
}

/// Neither complete, renew nor release of a holder that lost its lease touch what its successor has.
#[tokio::test(start_paused = true)]
async fn a_lost_holder_answers_conflict_and_leaves_its_successor_alone() {
    let (backend, node) = setup();
    let first = node.hold_past_lease(&backend).await;
    let successor = claim_elsewhere(&backend).await.expect("the lease is over");
    node.handler.open_all();
    let answer = first.await.unwrap();
    assert_eq!(answer.status, StatusCode::CONFLICT, "its own answer will never be seen again");
    let record = Record::value(&Fingerprint::of("another request"), b"the successor's");
    let stored = backend.inner().complete(&key(), successor, &record, RETENTION).await.unwrap();
    assert_eq!(stored, tower_idempotency::Ownership::Held);
}

#[tokio::test(start_paused = true)]
async fn a_lost_holder_answers_with_the_record_of_its_successor() {
    let (backend, node) = setup();
    let first = node.hold_past_lease(&backend).await;
    let other = Node::new(&backend, identity);
    other.handler.always(Reaction::Answer);
    let second = other.answer().await;
    assert_eq!((second.status, &*second.body), (StatusCode::OK, "1"));
    assert!(!second.is_replay());

    node.handler.open_all();
    let answer = first.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.is_replay());
    assert_eq!((node.runs(), other.runs()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_holder_shows_nothing_of_another_request() {
    let (backend, node) = setup();
    let first = node.hold_past_lease(&backend).await;
    let other = Node::new(&backend, identity);
    other.handler.always(Reaction::Answer);
    assert_eq!(other.send_with("two").await.unwrap().status, StatusCode::OK);
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::CONFLICT);
}

/// Nobody took the key while the lease was over: the response is worth recording.
#[tokio::test(start_paused = true)]
async fn an_expired_lease_that_nobody_took_over_can_be_completed() {
    let (backend, node) = setup();
    let first = node.hold_past_lease(&backend).await;
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
    assert!(node.answer().await.is_replay());
    assert_eq!(node.runs(), 1);
}

/// A node stands still for longer than its lease, clock and all; another runs meanwhile.
#[tokio::test(start_paused = true)]
async fn a_node_that_stalls_past_its_lease_does_no_harm() {
    let (backend, node) = setup();
    let first = node.hold().await;
    advance(2 * LEASE).await; // no task runs in between
    let successor = claim_elsewhere(&backend).await.expect("the lease is over");
    sleep(LEASE / 2).await;
    node.handler.open_all();
    assert_eq!(first.await.unwrap().status, StatusCode::CONFLICT);
    backend.inner().release(&key(), successor).await.unwrap();
    assert_eq!(node.answer().await.status, StatusCode::OK);
}

/// A stalled backend answers nobody; requests are refused in time, and served again when it is back.
#[tokio::test(start_paused = true)]
async fn service_returns_by_itself_with_the_backend() {
    let (backend, node) = setup();
    backend.stall();
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
    backend.resume();
    // What was sent meanwhile arrives now, in any order. A claim behind its own release is released once more.
    sleep(2 * TIMEOUT).await;
    assert_eq!(node.answer().await.status, StatusCode::OK);
    assert_eq!(node.runs(), 1);
}

/// A record that the backend can never keep leaves a tombstone: the run must not be repeated for its size.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_too_large_for_the_backend_leaves_a_tombstone() {
    let (backend, node) = setup();
    backend.on(Command::Complete).next(Fault::ErrorBefore(BackendErrorKind::TooLarge));
    let answer = node.answer().await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "1"));
    assert!(!answer.is_marked_not_stored(), "that it was executed is stored");
    let retry = node.answer().await;
    assert_eq!(retry.status, StatusCode::CONFLICT);
    assert!(retry.body.contains("NotKept"), "{}", retry.body);
    assert_eq!(node.runs(), 1);
}

/// Also when it says so only after the client has its response.
#[tokio::test(start_paused = true)]
async fn a_record_that_turns_out_too_large_behind_its_response_leaves_a_tombstone() {
    let (backend, node) = setup();
    backend.on(Command::Complete).always(Fault::LoseRequest);
    assert!(node.answer().await.is_marked_not_stored());
    backend.on(Command::Complete).clear();
    backend.on(Command::Complete).next(Fault::ErrorBefore(BackendErrorKind::TooLarge));
    sleep(4 * TIMEOUT).await;
    let retry = node.answer().await;
    assert_eq!(retry.status, StatusCode::CONFLICT);
    assert!(retry.body.contains("NotKept"), "{}", retry.body);
    assert_eq!(node.runs(), 1);
}

/// It is not renewed for ever.
#[tokio::test(start_paused = true)]
async fn a_run_whose_record_is_refused_behind_its_response_is_over_with_its_lease() {
    let (backend, node) = setup();
    backend.on(Command::Complete).always(Fault::LoseRequest);
    assert!(node.answer().await.is_marked_not_stored());
    backend.on(Command::Complete).clear();
    backend.on(Command::Complete).always(Fault::ErrorBefore(BackendErrorKind::Full));
    sleep(2 * LEASE).await;
    assert!(claim_elsewhere(&backend).await.is_some());
}

mod at_most_once {
    use super::*;

    fn setup() -> (Faulty, Node) {
        let backend = FaultyBackend::new(MemoryBackend::new());
        let node = Node::new(&backend, IdempotencyLayer::at_most_once);
        (backend, node)
    }

    #[tokio::test(start_paused = true)]
    async fn the_claim_is_extended_before_the_handler_is_called() {
        let (backend, node) = setup();
        let renewal = backend.hold(Command::Renew);
        let first = node.send();
        renewal.arrived().await;
        assert_eq!(node.runs(), 0);
        renewal.open();
        assert_eq!(first.await.unwrap().status, StatusCode::OK);
        assert_eq!(node.runs(), 1);
    }

    /// A node dies in the middle of its run: its runtime is gone, and with it every task.
    #[tokio::test(start_paused = true)]
    async fn a_crash_keeps_the_key_for_the_retention() {
        let (backend, node) = setup();
        let dead = FaultyBackend::clone(&backend);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let node = Node::new(&dead, IdempotencyLayer::at_most_once);
                node.handler.hold();
                drop(node.send());
                node.handler.arrived(1).await;
            });
        })
        .join()
        .unwrap();
        sleep(RETENTION / 2).await;
        assert_eq!(node.answer().await.status, StatusCode::CONFLICT);
        sleep(RETENTION).await;
        assert_eq!(node.answer().await.status, StatusCode::OK);
        assert_eq!(node.runs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_extension_is_refused_and_released() {
        let (backend, node) = setup();
        (0..3).for_each(|_| backend.on(Command::Renew).next(Fault::ErrorAfter(BackendErrorKind::Unavailable)));
        assert_eq!(node.answer().await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(node.runs(), 0);
        sleep(TIMEOUT).await;
        assert!(claim_elsewhere(&backend).await.is_some());
    }
}
