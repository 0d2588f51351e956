//! Duplicates that meet in one process, in front of a backend that is not: one claim for all of them, and none while a run
//! of the process holds the key. On tokio's paused clock, but for one.
#![cfg(all(feature = "memory", feature = "test-util"))]

#[path = "support/distant.rs"]
mod distant;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{Instant, advance, sleep, timeout},
};
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    Backend, BackendErrorKind, BoxBackend, Claim, Entry, Fingerprint, Idempotency, IdempotencyLayer, Key,
    MemoryBackend, Ownership, Record, Rejection, Token,
    protocol::{Completion, Lease, Protocol, Refusal, Terms},
    testing::{Command, Fault, FaultyBackend, InnerService, Probe},
};

use self::distant::{
    Distant,
    way::{Behind, Way},
};

const LEASE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long one claim is shared, if it is not answered.
const PATIENCE: Duration = Duration::from_millis(1250);
const MAX: Duration = Duration::from_secs(600);
const ROUND_TRIP: Duration = Duration::from_millis(10);

type Remote = FaultyBackend<Distant>;

/// A process: a layer, the service that it guards, and its handler.
struct Node {
    layer: IdempotencyLayer<Remote>,
    service: Idempotency<InnerService, Remote>,
    handler: Probe,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Answer {
    Own(StatusCode),
    Replay(Bytes),
    Refused(Rejection),
}

const CONFLICT: Answer = Answer::Refused(Rejection::InProgress);

impl Node {
    fn new(backend: &Remote, inner: InnerService) -> Self {
        Self::with(IdempotencyLayer::new(backend.clone()), inner)
    }

    fn with(layer: IdempotencyLayer<Remote>, inner: InnerService) -> Self {
        let handler = inner.probe();
        Self { service: layer.layer(inner), layer, handler }
    }

    fn send(&self, body: &'static str) -> JoinHandle<Answer> {
        tokio::spawn(ask(self.service.clone(), "k-1".to_owned(), body))
    }

    async fn answer(&self, body: &'static str) -> Answer {
        self.send(body).await.unwrap()
    }

    /// Sends requests that are alike and returns how many got which answer, by and by.
    async fn answers(requests: Vec<JoinHandle<Answer>>) -> HashMap<Answer, usize> {
        let mut answers = HashMap::new();
        for request in requests {
            *answers.entry(request.await.unwrap()).or_default() += 1;
        }
        answers
    }

    /// Sends a request whose handler is held from now on.
    async fn hold(&self) -> JoinHandle<Answer> {
        self.handler.hold();
        let first = self.send("one");
        self.handler.arrived(1).await;
        first
    }

    fn runs(&self) -> usize {
        self.handler.counts().started
    }
}

async fn ask(service: Idempotency<InnerService, Remote>, key: String, body: &'static str) -> Answer {
    let request = Request::post("http://localhost/").header("idempotency-key", key);
    let response = service.oneshot(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    match parts.extensions.get::<Rejection>() {
        Some(rejection) => Answer::Refused(*rejection),
        None if parts.headers.contains_key("idempotent-replayed") => Answer::Replay(body),
        None => Answer::Own(parts.status),
    }
}

fn backend() -> Remote {
    FaultyBackend::new(Distant::new(MemoryBackend::new(), ROUND_TRIP))
}

fn setup() -> (Remote, Node) {
    let backend = backend();
    let node = Node::new(&backend, InnerService::new());
    (backend, node)
}

/// A service whose first run answers 500.
fn failing_once() -> InnerService {
    let runs = AtomicUsize::new(0);
    InnerService::answering(move |_, _| {
        let run = 1 + runs.fetch_add(1, Ordering::Relaxed);
        let status = if run == 1 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        Response::builder().status(status).body(Full::from(run.to_string())).unwrap()
    })
}

fn commands(backend: &Remote) -> Vec<Command> {
    backend.log().into_iter().map(|sent| sent.command).collect()
}

/// Lets all tasks go as far as they can while no time passes.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn key() -> Key {
    Key::new("", "k-1")
}

/// Another node claims the key for the request that `fingerprint` stands for.
async fn claim_elsewhere(backend: &Remote, fingerprint: &str) -> Token {
    let token = Token::random();
    let claim = backend.inner().backend.claim(&key(), token, &Fingerprint::of(fingerprint), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Acquired);
    token
}

/// The protocol of a process, without HTTP.
fn protocol(backend: &Remote) -> Arc<Protocol<Remote>> {
    Arc::new(Protocol::new(Arc::new(backend.clone()), Terms::default()))
}

/// A claim of its own key and fingerprint, to be kept before it is awaited.
async fn claiming<B: Backend>(
    protocol: &Arc<Protocol<B>>,
    key: Key,
    fingerprint: Fingerprint,
) -> Result<Lease<B>, Refusal> {
    protocol.claim(&key, &fingerprint).await
}

type Claiming = JoinHandle<Result<Lease<Remote>, Refusal>>;

fn claim(protocol: &Arc<Protocol<Remote>>, fingerprint: &str) -> Claiming {
    let (protocol, fingerprint) = (Arc::clone(protocol), Fingerprint::of(fingerprint));
    tokio::spawn(async move { protocol.claim(&key(), &fingerprint).await })
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_duplicates_cost_one_claim_and_one_record() {
    let (backend, node) = setup();
    node.handler.hold();
    let duplicates: Vec<_> = (0..10_000).map(|_| node.send("one")).collect();
    node.handler.arrived(1).await;
    sleep(TIMEOUT).await;
    assert_eq!((commands(&backend), node.layer.busy_keys()), (vec![Command::Claim], 1));
    node.handler.open_all();
    let answers = Node::answers(duplicates).await;
    assert_eq!(answers, HashMap::from([(Answer::Own(StatusCode::OK), 1), (CONFLICT, 9_999)]));
    assert_eq!(node.answer("one").await, Answer::Replay(Bytes::from("1")));
    assert_eq!(commands(&backend), [Command::Claim, Command::Complete, Command::Claim]);
    assert_eq!((node.runs(), node.layer.busy_keys()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_with_a_run_of_the_process_costs_no_command_and_no_time() {
    let (backend, node) = setup();
    let first = node.hold().await;
    let began = Instant::now();
    let sent = backend.log().len();
    for _ in 0..100 {
        assert_eq!(node.answer("one").await, CONFLICT);
        assert_eq!(node.answer("two").await, Answer::Refused(Rejection::Mismatch));
    }
    assert_eq!((backend.log().len(), Instant::now()), (sent, began));
    node.handler.open_all();
    assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
}

#[tokio::test(start_paused = true)]
async fn each_judges_a_shared_answer_by_its_own_fingerprint() {
    let (backend, node) = setup();
    node.handler.hold();
    let sent = ["one", "one", "two", "one"].map(|body| node.send(body));
    sleep(TIMEOUT).await;
    node.handler.open_all();
    let [first, rest @ ..] = sent;
    assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
    let mismatch = Answer::Refused(Rejection::Mismatch);
    for (sent, expected) in rest.into_iter().zip([CONFLICT, mismatch.clone(), CONFLICT]) {
        assert_eq!(sent.await.unwrap(), expected);
    }
    assert_eq!(commands(&backend), [Command::Claim, Command::Complete]);

    let replay = Answer::Replay(Bytes::from("1"));
    let sent = ["two", "one", "two", "one"].map(|body| node.send(body));
    for (sent, expected) in sent.into_iter().zip([mismatch.clone(), replay.clone(), mismatch, replay]) {
        assert_eq!(sent.await.unwrap(), expected);
    }
    assert_eq!(commands(&backend), [Command::Claim, Command::Complete, Command::Claim], "the three share it");
}

/// The claim of one whose client has left goes on; it still answers the others.
#[tokio::test(start_paused = true)]
async fn a_claim_is_shared_also_when_its_client_has_left() {
    let (backend, node) = setup();
    let claim = backend.hold(Command::Claim);
    let first = node.send("one");
    claim.arrived().await;
    let second = node.send("one");
    settle().await;
    first.abort();
    settle().await;
    claim.open();
    assert_eq!(second.await.unwrap(), CONFLICT);
    sleep(TIMEOUT).await;
    assert_eq!(node.answer("one").await, Answer::Replay(Bytes::from("1")));
    assert_eq!(commands(&backend), [Command::Claim, Command::Complete, Command::Claim]);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_that_asks_is_dropped_one_of_the_others_asks() {
    let backend = backend();
    let protocol = protocol(&backend);
    let held = backend.hold(Command::Claim);
    let first = claim(&protocol, "one");
    held.arrived().await;
    let followers: Vec<_> = (0..100).map(|_| claim(&protocol, "one")).collect();
    settle().await;
    drop(held); // its claim never arrives
    let next = backend.hold(Command::Claim);
    first.abort();
    next.arrived().await;
    assert_eq!((backend.sent(Command::Claim), protocol.busy_keys()), (2, 1));
    let log = backend.log();
    assert_ne!(log[0].token, log[1].token, "tokens are private to who made them");
    next.open();
    let mut leases = Vec::new();
    for follower in followers {
        match follower.await.unwrap() {
            Ok(lease) => leases.push(lease),
            Err(refusal) => assert!(matches!(refusal, Refusal::InProgress), "{refusal:?}"),
        }
    }
    assert_eq!((leases.len(), backend.sent(Command::Claim)), (1, 2));
    leases.pop().unwrap().release().await;
    assert_eq!(protocol.busy_keys(), 0);
}

/// Wherever the one that asks is dropped, nothing is left behind, and the next one asks.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_dropped_at_any_await_leaves_no_entry() {
    for polls in 0..20 {
        let backend = backend();
        let protocol = protocol(&backend);
        {
            let mut claiming = pin!(claiming(&protocol, key(), Fingerprint::of("one")));
            for _ in 0..polls {
                if claiming.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    break;
                }
                advance(ROUND_TRIP / 8).await;
            }
        }
        assert_eq!(protocol.busy_keys(), 0, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_leaves_no_entry() {
    let backend = backend();
    let protocol = protocol(&backend);
    let lease = claiming(&protocol, key(), Fingerprint::of("one")).await.unwrap();
    assert_eq!(protocol.busy_keys(), 1);
    drop(lease);
    assert_eq!(protocol.busy_keys(), 0);
    for polls in 1..10 {
        let fingerprint = Fingerprint::of([polls]);
        let key = Key::new("", [polls]);
        let lease = claiming(&protocol, key, fingerprint).await.unwrap();
        let mut ending = Box::pin(lease.complete(Record::value(&fingerprint, b"done")));
        for _ in 0..polls {
            if ending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            advance(ROUND_TRIP / 4).await;
        }
        drop(ending);
        assert_eq!(protocol.busy_keys(), 0, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_claim_refuses_in_time_all_who_share_it() {
    let (backend, node) = setup();
    backend.on(Command::Claim).always(Fault::LoseRequest);
    let began = Instant::now();
    let answers = Node::answers((0..100).map(|_| node.send("one")).collect()).await;
    assert_eq!(answers, HashMap::from([(Answer::Refused(Rejection::BackendUnavailable), 100)]));
    assert!(began.elapsed() <= TIMEOUT, "{:?}", began.elapsed());
    assert_eq!((backend.sent(Command::Claim), node.layer.busy_keys()), (2, 0));
    backend.clear();
    assert_eq!(node.answer("one").await, Answer::Own(StatusCode::OK));
}

/// The kind of an error says what may be done about it.
#[tokio::test(start_paused = true)]
async fn the_kind_of_an_error_is_shared() {
    let backend = backend();
    let protocol = protocol(&backend);
    backend.on(Command::Claim).next(Fault::ErrorBefore(BackendErrorKind::Corrupt));
    let held = backend.hold(Command::Claim);
    held.open();
    let first = claim(&protocol, "one");
    let second = claim(&protocol, "one");
    for claiming in [first, second] {
        match claiming.await.unwrap() {
            Err(Refusal::Unavailable(error)) => assert_eq!(error.kind(), BackendErrorKind::Corrupt),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(backend.sent(Command::Claim), 1);
}

/// A future that nobody polls, as in a stalled `join`, keeps nobody from the key.
#[tokio::test(start_paused = true)]
async fn a_claim_that_nobody_works_on_is_not_shared_for_long() {
    let backend = backend();
    let protocol = protocol(&backend);
    let mut forgotten = pin!(claiming(&protocol, key(), Fingerprint::of("one")));
    assert!(forgotten.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    sleep(PATIENCE / 2).await;
    let began = Instant::now();
    let follower = claim(&protocol, "one");
    settle().await;
    sleep(PATIENCE / 2).await;
    let lease = claim(&protocol, "one").await.unwrap().expect("the forgotten claim has not been executed");
    assert!(matches!(follower.await.unwrap(), Err(Refusal::InProgress)));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());

    // What the forgotten one does later is its own affair.
    let refused = forgotten.await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(matches!(claim(&protocol, "one").await.unwrap(), Err(Refusal::InProgress)));
    assert!(matches!(lease.complete(Record::value(&Fingerprint::of("one"), b"done")).await, Completion::Stored));
    assert_eq!(protocol.busy_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_replaced_leaves_its_successor_alone() {
    let backend = backend();
    let protocol = protocol(&backend);
    let mut forgotten = Box::pin(claiming(&protocol, key(), Fingerprint::of("one")));
    assert!(forgotten.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    sleep(PATIENCE).await;
    let held = backend.hold(Command::Claim);
    let second = claim(&protocol, "one");
    held.arrived().await;
    drop(forgotten);
    let third = claim(&protocol, "one");
    settle().await;
    assert_eq!((backend.sent(Command::Claim), protocol.busy_keys()), (2, 1), "they share one");
    held.open();
    assert!(second.await.unwrap().is_ok());
    assert!(matches!(third.await.unwrap(), Err(Refusal::InProgress)));
}

/// It comes back to life, and its run is known like any other.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_replaced_can_still_lead_to_a_run() {
    let backend = backend();
    let protocol = protocol(&backend);
    backend.on(Command::Claim).next(Fault::DelayRequest(ROUND_TRIP)); // it travels while nobody polls it
    let mut forgotten = Box::pin(claiming(&protocol, key(), Fingerprint::of("one")));
    assert!(forgotten.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    sleep(PATIENCE).await;
    assert!(matches!(claim(&protocol, "one").await.unwrap(), Err(Refusal::InProgress)));
    assert_eq!((backend.sent(Command::Claim), protocol.busy_keys()), (2, 0), "the backend has said so");
    let lease = forgotten.await.expect("its claim has been made");
    assert!(matches!(claim(&protocol, "two").await.unwrap(), Err(Refusal::Mismatch)));
    assert_eq!((backend.sent(Command::Claim), protocol.busy_keys()), (2, 1), "the run has");
    lease.release().await;
    assert_eq!(protocol.busy_keys(), 0);
}

/// It has not asked the backend yet, so it cannot say that the backend does not answer.
#[tokio::test(start_paused = true)]
async fn those_who_share_a_claim_that_nobody_works_on_ask_in_the_end() {
    let backend = backend();
    let protocol = protocol(&backend);
    let mut forgotten = pin!(claiming(&protocol, key(), Fingerprint::of("one")));
    assert!(forgotten.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let began = Instant::now();
    let followers: Vec<_> = (0..100).map(|_| claim(&protocol, "one")).collect();
    let mut leases = Vec::new();
    for follower in followers {
        match follower.await.unwrap() {
            Ok(lease) => leases.push(lease),
            Err(refusal) => assert!(matches!(refusal, Refusal::InProgress), "{refusal:?}"),
        }
    }
    assert_eq!((leases.len(), backend.sent(Command::Claim)), (1, 2));
    assert_eq!(began.elapsed(), PATIENCE + ROUND_TRIP);
}

#[tokio::test(start_paused = true)]
async fn nobody_shares_one_claim_after_another_that_nobody_works_on() {
    let backend = backend();
    let protocol = protocol(&backend);
    let mut forgotten = [(); 2].map(|()| Box::pin(claiming(&protocol, key(), Fingerprint::of("one"))));
    assert!(forgotten[0].as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    sleep(PATIENCE / 2).await;
    let follower = claim(&protocol, "one");
    sleep(PATIENCE / 2).await;
    assert!(forgotten[1].as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let began = Instant::now();
    assert!(matches!(follower.await.unwrap(), Err(Refusal::Unavailable(_))));
    assert_eq!(began.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_for_claims_that_are_dropped_one_after_another() {
    let backend = backend();
    let protocol = protocol(&backend);
    let lead = || {
        let mut claim = Box::pin(claiming(&protocol, key(), Fingerprint::of("one")));
        assert!(claim.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        claim
    };
    let mut leader = lead();
    let began = Instant::now();
    let follower = claim(&protocol, "one");
    for _ in 0..2 {
        sleep(PATIENCE / 2).await;
        drop(leader);
        leader = lead();
    }
    assert!(matches!(follower.await.unwrap(), Err(Refusal::Unavailable(_))));
    assert_eq!(began.elapsed(), PATIENCE / 2 + PATIENCE);
}

/// Looks at the table when it is woken, as an executor may do that drops a task then.
struct Looking(Arc<Protocol<Remote>>);

impl Wake for Looking {
    fn wake(self: Arc<Self>) {
        self.0.busy_keys();
    }
}

/// If they were, the one that takes over would hang here.
#[tokio::test(start_paused = true)]
async fn those_who_follow_a_leader_that_is_not_polled_are_not_woken_under_the_lock() {
    let backend = backend();
    backend.on(Command::Claim).next(Fault::LoseReply);
    let protocol = protocol(&backend);
    let waker = Waker::from(Arc::new(Looking(Arc::clone(&protocol))));
    let mut leader = pin!(claiming(&protocol, key(), Fingerprint::of("one")));
    assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    advance(PATIENCE / 2).await;
    let mut follower = pin!(claiming(&protocol, key(), Fingerprint::of("one")));
    assert!(follower.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    advance(PATIENCE / 2).await;
    let another = claim(&protocol, "one");
    assert!(matches!(another.await.unwrap(), Err(Refusal::InProgress)), "with the claim that nobody asks about");
}

#[tokio::test(start_paused = true)]
async fn when_a_lease_is_lost_the_next_duplicate_asks_at_once() {
    let (backend, node) = setup();
    let first = node.hold().await;
    assert!(backend.inner().backend.remove(&key()).await.unwrap());
    sleep(LEASE / 4).await;
    assert_eq!(node.answer("one").await, CONFLICT, "it is not known before the next renewal");
    sleep(LEASE / 6).await;
    let second = node.send("one");
    node.handler.arrived(2).await;
    assert_eq!(node.answer("one").await, CONFLICT, "with the second");

    // The end of the first is none of the second's business.
    node.handler.open_one();
    assert_eq!(first.await.unwrap(), CONFLICT);
    let sent = backend.log().len();
    assert_eq!(node.answer("one").await, CONFLICT);
    assert_eq!(backend.log().len(), sent);
    node.handler.open_all();
    assert_eq!(second.await.unwrap(), Answer::Own(StatusCode::OK));
    assert_eq!((node.runs(), node.layer.busy_keys()), (2, 0));
}

/// A process that has stood still does not trust its table, even before its renewer has noticed.
#[tokio::test(start_paused = true)]
async fn past_its_deadline_a_run_answers_nobody() {
    let (backend, node) = setup();
    let first = node.hold().await;
    advance(2 * LEASE).await; // no task runs in between
    claim_elsewhere(&backend, "another request").await;
    let answer = ask(node.service.clone(), "k-1".to_owned(), "one").await;
    assert_eq!(answer, Answer::Refused(Rejection::Mismatch));
    node.handler.open_all();
    assert_eq!(first.await.unwrap(), CONFLICT);
    assert_eq!(node.layer.busy_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_run_answers_nobody() {
    let (backend, node) = setup();
    let sent = Instant::now();
    let first = node.hold().await;
    let deadline = LEASE * 9 / 10;
    advance(deadline - Duration::from_millis(1) - sent.elapsed()).await; // no task runs in between
    assert_eq!((ask(node.service.clone(), "k-1".to_owned(), "one").await, backend.sent(Command::Claim)), (CONFLICT, 1));
    advance(deadline - sent.elapsed()).await;
    assert_eq!((ask(node.service.clone(), "k-1".to_owned(), "one").await, backend.sent(Command::Claim)), (CONFLICT, 2));
    node.handler.open_all();
    assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
}

#[tokio::test(start_paused = true)]
async fn a_released_key_runs_again() {
    let backend = backend();
    let node = Node::new(&backend, failing_once());
    assert_eq!(node.answer("one").await, Answer::Own(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(node.answer("one").await, Answer::Own(StatusCode::OK));
    assert_eq!(node.layer.busy_keys(), 0);
}

/// Whoever gets the key then is told by the backend alone.
#[tokio::test(start_paused = true)]
async fn a_run_that_has_sent_its_release_answers_nobody() {
    let backend = backend();
    let node = Node::new(&backend, failing_once());
    let reply = backend.hold_reply(Command::Release);
    let first = node.send("one");
    reply.arrived().await;
    claim_elsewhere(&backend, "another request").await;
    assert_eq!(node.answer("one").await, Answer::Refused(Rejection::Mismatch));
    reply.open();
    assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::INTERNAL_SERVER_ERROR));
}

/// The record is there, only the client could not be told so: its retry gets it.
#[tokio::test(start_paused = true)]
async fn a_run_whose_end_is_not_answered_answers_nobody() {
    let (backend, node) = setup();
    backend.on(Command::Complete).always(Fault::LoseReply);
    assert_eq!(node.answer("one").await, Answer::Own(StatusCode::OK));
    assert_eq!(node.layer.busy_keys(), 0);
    assert_eq!(node.answer("one").await, Answer::Replay(Bytes::from("1")));
}

/// A conflict that was found before a request came may be over by then, and seen to be over.
#[tokio::test(start_paused = true)]
async fn a_conflict_is_shared_only_with_those_who_came_before_the_claim_was_sent() {
    let backend = backend();
    let protocol = protocol(&backend);
    let elsewhere = claim_elsewhere(&backend, "another").await;
    let reply = backend.hold_reply(Command::Claim);
    let first = claim(&protocol, "one");
    reply.arrived().await;
    backend.inner().backend.release(&key(), elsewhere).await.unwrap();
    let second = claim(&protocol, "one"); // whose client may have seen the release
    settle().await;
    reply.open();
    assert!(matches!(first.await.unwrap(), Err(Refusal::Mismatch)));
    let lease = second.await.unwrap().expect("the key is free");
    lease.release().await;
    assert_eq!(protocol.busy_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_conflicts_with_a_run_elsewhere_cost_two_claims() {
    let backend = backend();
    let protocol = protocol(&backend);
    claim_elsewhere(&backend, "one").await;
    let claims: Vec<_> = (0..10_000).map(|_| claim(&protocol, "one")).collect();
    for claim in claims {
        assert!(matches!(claim.await.unwrap(), Err(Refusal::InProgress)));
    }
    assert_eq!((commands(&backend), protocol.busy_keys()), (vec![Command::Claim; 2], 0));
}

/// What all of this is for: on one narrow connection the renewals of a short lease have to get past its duplicates.
#[tokio::test(start_paused = true)]
async fn a_crowd_of_duplicates_does_not_starve_the_renewals_of_their_run() {
    let backend = FaultyBackend::new(Distant::new(MemoryBackend::new(), ROUND_TRIP).one_at_a_time());
    let layer = IdempotencyLayer::new(backend.clone()).lease(Duration::from_millis(600));
    let node = Node::with(layer, InnerService::new());
    let first = node.hold().await;
    let mut answers = HashMap::new();
    for _ in 0..20 {
        let crowd = Node::answers((0..1_000).map(|_| node.send("one")).collect());
        let crowd = timeout(MAX, crowd).await.expect("none of them waits, as it would in a second run");
        crowd.into_iter().for_each(|(answer, number)| *answers.entry(answer).or_default() += number);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answers, HashMap::from([(CONFLICT, 20_000)]));
    node.handler.open_all();
    assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
    assert_eq!((node.runs(), backend.sent(Command::Claim)), (1, 1));
}

/// Whoever has seen the end of a response gets it again, and no conflict, however soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_duplicate_sent_at_the_end_of_the_first_response_is_replayed() {
    let backend = FaultyBackend::new(Distant::new(MemoryBackend::new(), Duration::ZERO));
    let node = Node::new(&backend, InnerService::answering(|_, _| Response::new(Full::from("done"))));
    let clients = (0..10).map(|client| {
        let service = node.service.clone();
        tokio::spawn(async move {
            for request in 0..1_000 {
                let key = format!("k-{client}-{request}");
                assert_eq!(ask(service.clone(), key.clone(), "one").await, Answer::Own(StatusCode::OK));
                assert_eq!(ask(service.clone(), key, "one").await, Answer::Replay(Bytes::from("done")));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!((node.runs(), node.layer.busy_keys()), (10_000, 0));
}

mod waiters {
    use super::*;

    fn setup(inner: InnerService) -> (Remote, Node) {
        let backend = backend();
        let node = Node::with(IdempotencyLayer::new(backend.clone()).wait(MAX), inner);
        (backend, node)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_of_them_cost_no_command() {
        let (backend, node) = setup(InnerService::new());
        let first = node.hold().await;
        let waiters = (0..1_000).map(|_| node.send("one")).collect();
        sleep(LEASE / 4).await;
        let began = Instant::now();
        node.handler.open_all();
        assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
        assert_eq!(Node::answers(waiters).await, HashMap::from([(Answer::Replay(Bytes::from("1")), 1_000)]));
        assert_eq!(began.elapsed(), ROUND_TRIP, "as soon as the record is stored");
        assert_eq!(commands(&backend), [Command::Claim, Command::Complete]);
        assert_eq!(node.layer.busy_keys(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_costs_them_one_claim() {
        let (backend, node) = setup(failing_once());
        let first = node.hold().await;
        let waiters = (0..1_000).map(|_| node.send("one")).collect();
        settle().await;
        node.handler.open_one();
        assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::INTERNAL_SERVER_ERROR));
        node.handler.arrived(1).await;
        node.handler.open_all();
        let answers = HashMap::from([(Answer::Own(StatusCode::OK), 1), (Answer::Replay(Bytes::from("2")), 999)]);
        assert_eq!(Node::answers(waiters).await, answers);
        assert_eq!(commands(&backend), [Command::Claim, Command::Release, Command::Claim, Command::Complete]);
    }

    #[tokio::test(start_paused = true)]
    async fn they_wait_until_the_release_is_answered() {
        let (backend, node) = setup(failing_once());
        let release = backend.hold(Command::Release);
        let first = node.hold().await;
        let waiter = node.send("one");
        settle().await;
        node.handler.open_one();
        release.arrived().await;
        sleep(TIMEOUT / 4).await;
        assert_eq!(backend.sent(Command::Claim), 1);
        release.open();
        assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::INTERNAL_SERVER_ERROR));
        node.handler.arrived(1).await;
        node.handler.open_all();
        assert_eq!(waiter.await.unwrap(), Answer::Own(StatusCode::OK));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_takes_too_long_costs_no_command() {
        let (backend, node) = setup(InnerService::new());
        let first = node.hold().await;
        let began = Instant::now();
        assert_eq!(node.answer("one").await, CONFLICT);
        assert_eq!(began.elapsed(), MAX);
        assert_eq!((backend.sent(Command::Claim), backend.sent(Command::Wait)), (1, 0));
        node.handler.open_all();
        assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
    }

    /// Nobody knows what has become of the key: they ask.
    #[tokio::test(start_paused = true)]
    async fn a_lost_lease_wakes_them() {
        let (backend, node) = setup(InnerService::new());
        let first = node.hold().await;
        let waiter = node.send("one");
        settle().await;
        assert!(backend.inner().backend.remove(&key()).await.unwrap());
        node.handler.arrived(2).await;
        node.handler.open_all();
        assert_eq!(waiter.await.unwrap(), Answer::Own(StatusCode::OK));
        assert_eq!(first.await.unwrap(), Answer::Replay(Bytes::from("2")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_not_answered_wakes_them() {
        let (backend, node) = setup(InnerService::new());
        backend.on(Command::Complete).always(Fault::LoseReply);
        let first = node.hold().await;
        let waiter = node.send("one");
        settle().await;
        node.handler.open_all();
        assert_eq!(waiter.await.unwrap(), Answer::Replay(Bytes::from("1")));
        assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
        assert_eq!(node.runs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_was_not_stored_is_told_to_nobody() {
        let (backend, node) = setup(InnerService::new());
        let first = node.hold().await;
        let waiter = node.send("one");
        settle().await;
        assert!(backend.inner().backend.remove(&key()).await.unwrap());
        claim_elsewhere(&backend, "another request").await;
        node.handler.open_all();
        assert_eq!(waiter.await.unwrap(), Answer::Refused(Rejection::Mismatch));
        assert_eq!(first.await.unwrap(), CONFLICT);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_leave_change_nothing() {
        let (backend, node) = setup(InnerService::new());
        let first = node.hold().await;
        let waiters: Vec<_> = (0..1_000).map(|_| node.send("one")).collect();
        settle().await;
        waiters.iter().for_each(JoinHandle::abort);
        settle().await;
        assert_eq!((commands(&backend), node.layer.busy_keys()), (vec![Command::Claim], 1));
        node.handler.open_all();
        assert_eq!(first.await.unwrap(), Answer::Own(StatusCode::OK));
    }
}

/// Panics when it is told to.
struct Brittle(Arc<AtomicBool>);

impl Way for Brittle {
    async fn there_and_back<T: Send>(&self, command: impl Future<Output = T> + Send) -> T {
        assert!(!self.0.load(Ordering::Relaxed), "on purpose");
        command.await
    }
}

/// Nothing renews it any more: its handler is told so, and its duplicates ask the backend.
#[tokio::test(start_paused = true)]
async fn a_run_whose_renewal_panics_has_lost_its_lease() {
    let broken = Arc::new(AtomicBool::new(false));
    let backend = Behind { way: Brittle(Arc::clone(&broken)), backend: MemoryBackend::new(), local: false };
    let protocol = Arc::new(Protocol::new(Arc::new(backend), Terms::default()));
    let lease = claiming(&protocol, key(), Fingerprint::of("one")).await.unwrap();
    broken.store(true, Ordering::Relaxed);
    sleep(LEASE / 2).await;
    assert_eq!((lease.is_lost(), protocol.busy_keys()), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn a_backend_in_this_process_is_asked_each_time() {
    let backend = FaultyBackend::new(BoxBackend::new(Arc::new(MemoryBackend::new())));
    assert!(backend.is_local(), "each says what the one inside says");
    let protocol = Arc::new(Protocol::new(Arc::new(backend.clone()), Terms::default()));
    let fingerprint = Fingerprint::of("one");
    let lease = claiming(&protocol, key(), fingerprint).await.unwrap();
    assert!(matches!(claiming(&protocol, key(), fingerprint).await, Err(Refusal::InProgress)));
    assert_eq!((backend.sent(Command::Claim), protocol.busy_keys()), (2, 0));
    assert!(matches!(lease.complete(Record::tombstone(&fingerprint)).await, Completion::Stored));
}

#[tokio::test(start_paused = true)]
async fn a_backend_elsewhere_is_not_local_in_any_wrapping() {
    let backend = BoxBackend::new(Arc::new(backend()));
    assert!(!backend.is_local());
    let fingerprint = Fingerprint::of("one");
    assert_eq!(backend.claim(&key(), Token::random(), &fingerprint, LEASE).await.unwrap(), Claim::Acquired);
    assert_eq!(backend.get(&key()).await.unwrap(), Some(Entry::InProgress { fingerprint }));
    assert_eq!(backend.renew(&key(), Token::random(), LEASE).await.unwrap(), Ownership::Lost);
}

/// It panics between its sending and the reply.
#[tokio::test(start_paused = true)]
async fn when_the_one_that_asks_panics_one_of_the_others_asks() {
    let backend = backend();
    let protocol = protocol(&backend);
    let leader = tokio::spawn({
        let protocol = Arc::clone(&protocol);
        async move {
            let mut claiming = pin!(claiming(&protocol, key(), Fingerprint::of("one")));
            assert!(claiming.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            yield_now().await;
            panic!("on purpose");
        }
    });
    let follower = claim(&protocol, "one");
    assert!(leader.await.unwrap_err().is_panic());
    let lease = follower.await.unwrap().expect("the first claim was dropped on its way");
    assert_eq!(backend.sent(Command::Claim), 2);
    drop(lease);
    assert_eq!(protocol.busy_keys(), 0);
}
