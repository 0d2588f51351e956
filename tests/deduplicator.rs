//! Messages that are delivered more than once. On tokio's paused clock, but for one test of many threads.
#![cfg(all(feature = "memory", feature = "test-util"))]

use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, advance, sleep, timeout},
};
use tower_idempotency::{
    Backend, BackendErrorKind, Claim, Deduplicator, Fingerprint, Key, MemoryBackend, Message, Ownership, Processed,
    Record, Run, RunError, Token,
    testing::{Command, Fault, FaultyBackend},
};

const LEASE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

type Faulty = FaultyBackend<MemoryBackend>;
type Answer = Result<Processed, RunError<Failure>>;

#[derive(Debug, PartialEq)]
struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no ink")
    }
}

impl Error for Failure {}

/// A process: its deduplicator, and its handler, which counts its runs and waits at a gate that a test may close.
struct Consumer {
    deduplicator: Deduplicator<Faulty>,
    runs: Arc<watch::Sender<usize>>,
    gate: Arc<Semaphore>,
}

impl Consumer {
    fn new(backend: &Faulty, change: impl FnOnce(Deduplicator<Faulty>) -> Deduplicator<Faulty>) -> Self {
        Self {
            deduplicator: change(Deduplicator::new(backend.clone())),
            runs: Arc::new(watch::Sender::new(0)),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// The handler: it says the number of its run.
    fn handle(&self) -> impl Future<Output = Result<String, Failure>> + Send + use<> {
        let (runs, gate) = (Arc::clone(&self.runs), Arc::clone(&self.gate));
        async move {
            runs.send_modify(|runs| *runs += 1);
            let run = *runs.borrow();
            let _passed = gate.acquire().await.unwrap();
            Ok(format!("receipt {run}"))
        }
    }

    /// A delivery of `evt_1`.
    async fn deliver(&self) -> Answer {
        self.deduplicator.run("evt_1", self.handle()).await
    }

    /// A delivery of `evt_1` whose handler speaks and then ends as `end` says.
    async fn deliver_with<F>(&self, end: impl FnOnce(Run) -> F + Send + 'static) -> Answer
    where
        F: Future<Output = Result<String, Failure>> + Send + 'static,
    {
        self.deduplicator.run_with("evt_1", end).await
    }

    /// A delivery of `evt_1`, whose handler is at the gate now and stays there.
    async fn hold(&self) -> JoinHandle<Answer> {
        self.hold_message("evt_1").await
    }

    async fn hold_message(&self, id: &str) -> JoinHandle<Answer> {
        self.close();
        let runs = self.runs();
        let delivery = tokio::spawn(self.deduplicator.run(id, self.handle()));
        self.started(runs + 1).await;
        delivery
    }

    fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS);
    }

    async fn started(&self, runs: usize) {
        self.runs.subscribe().wait_for(|&started| started >= runs).await.unwrap();
    }

    fn runs(&self) -> usize {
        *self.runs.borrow()
    }
}

fn setup() -> (Faulty, Consumer) {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let consumer = Consumer::new(&backend, |deduplicator| deduplicator);
    (backend, consumer)
}

fn at_most_once() -> (Faulty, Consumer) {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let consumer = Consumer::new(&backend, Deduplicator::at_most_once);
    (backend, consumer)
}

fn executed(text: &'static str) -> Processed {
    Processed::Executed(Bytes::from(text))
}

fn replayed(text: &'static str) -> Processed {
    Processed::Replayed(Some(Bytes::from(text)))
}

fn key() -> Key {
    Key::new("", "evt_1")
}

/// Another process claims `evt_1`.
async fn claim_elsewhere(backend: &Faulty) -> Token {
    let token = Token::random();
    let claim = backend.inner().claim(&key(), token, &Fingerprint::of(""), LEASE).await.unwrap();
    assert_eq!(claim, Claim::Acquired);
    token
}

/// Lets the lease of every run end.
async fn lose_leases(backend: &Faulty) {
    backend.on(Command::Renew).always(Fault::LoseRequest);
    sleep(2 * LEASE).await;
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_gets_the_value_of_the_first_delivery() {
    let (_, consumer) = setup();
    assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 1"));
    assert_eq!(consumer.deliver().await.unwrap(), replayed("receipt 1"));
    assert_eq!(consumer.runs(), 1);
    assert_eq!(consumer.deduplicator.run("evt_2", consumer.handle()).await.unwrap(), executed("receipt 2"));
}

#[tokio::test(start_paused = true)]
async fn values_are_any_bytes_and_may_be_none() {
    let (_, consumer) = setup();
    let nothing = async || consumer.deduplicator.run("evt_1", async { Ok::<_, Failure>([]) }).await.unwrap();
    assert_eq!(nothing().await, executed(""));
    assert_eq!(nothing().await, replayed(""));
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let binary = consumer.deduplicator.run(&[0xff, 0x00], {
        let bytes = bytes.clone();
        async { Ok::<_, Failure>(bytes) }
    });
    assert_eq!(binary.await.unwrap().value().unwrap(), &bytes);
    let again = consumer.deduplicator.run(&[0xff, 0x00], consumer.handle()).await.unwrap();
    assert_eq!(again.value().unwrap(), &bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_deliveries_run_once() {
    let (_, consumer) = setup();
    for round in 0..50 {
        let mut deliveries = JoinSet::new();
        for _ in 0..40 {
            let id = format!("evt_{round}");
            deliveries.spawn(consumer.deduplicator.run(&id, consumer.handle()));
        }
        let mut executions = 0;
        for answer in deliveries.join_all().await {
            match answer {
                Ok(Processed::Executed(_)) => executions += 1,
                Ok(Processed::Replayed(Some(_))) | Err(RunError::InProgress) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((executions, consumer.runs()), (1, round + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_of_a_running_message_is_told_so() {
    let (backend, consumer) = setup();
    let first = consumer.hold().await;
    let elsewhere = Consumer::new(&backend, |deduplicator| deduplicator);
    for consumer in [&consumer, &elsewhere] {
        let error = consumer.deliver().await.unwrap_err();
        assert!(matches!(error, RunError::InProgress) && error.is_retryable(), "{error:?}");
    }
    consumer.open();
    assert_eq!(first.await.unwrap().unwrap(), executed("receipt 1"));
    assert_eq!(elsewhere.deliver().await.unwrap(), replayed("receipt 1"));
    assert_eq!((consumer.runs(), elsewhere.runs()), (1, 0));
    assert_eq!(backend.sent(Command::Wait), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_waits_gets_the_value_or_its_turn() {
    let (backend, first) = setup();
    let waiting = Consumer::new(&backend, |deduplicator| deduplicator.wait(Duration::from_secs(10)));
    let held = first.hold().await;
    let waiter = tokio::spawn(waiting.deduplicator.run("evt_1", waiting.handle()));
    sleep(Duration::from_secs(9)).await;
    first.open();
    assert_eq!(held.await.unwrap().unwrap(), executed("receipt 1"));
    assert_eq!(waiter.await.unwrap().unwrap(), replayed("receipt 1"));

    let failing = first.deduplicator.run("evt_2", async {
        sleep(Duration::from_secs(5)).await;
        Err::<String, _>(Failure)
    });
    let turn = waiting.deduplicator.run("evt_2", waiting.handle());
    let (failed, turn) = tokio::join!(failing, turn);
    assert!(matches!(failed, Err(RunError::Failed(Failure))));
    assert_eq!(turn.unwrap(), executed("receipt 1"));

    let _held = first.hold_message("evt_3").await;
    let too_long = timeout(Duration::from_secs(11), waiting.deduplicator.run("evt_3", waiting.handle())).await;
    assert!(matches!(too_long, Ok(Err(RunError::InProgress))), "{too_long:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_goes_to_the_caller_and_gives_the_key_back() {
    let (_, consumer) = setup();
    let error = consumer.deliver_with(async |_| Err(Failure)).await.unwrap_err();
    assert!(matches!(error, RunError::Failed(Failure)) && error.is_retryable(), "{error:?}");
    assert_eq!(
        (error.to_string(), error.source().unwrap().to_string()),
        ("the handler failed".into(), "no ink".into())
    );
    assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_panic_after_keep_is_final() {
    for panics in [false, true] {
        let (_, consumer) = setup();
        let deduplicator = consumer.deduplicator.clone();
        let ended = tokio::spawn(deduplicator.run_with("evt_1", move |run| async move {
            run.keep();
            assert!(!panics, "after keep");
            Err::<String, _>(Failure)
        }));
        match ended.await {
            Ok(answer) => assert!(!panics && matches!(answer, Err(RunError::Failed(Failure)))),
            Err(error) => assert!(panics && error.is_panic()),
        }
        let error = consumer.deliver().await.unwrap_err();
        assert!(matches!(error, RunError::OutcomeUnknown) && !error.is_retryable(), "{error:?}");
        assert_eq!(consumer.runs(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_the_caller_and_gives_the_key_back() {
    let (_, consumer) = setup();
    let deduplicator = consumer.deduplicator.clone();
    let ended = tokio::spawn(async move { deduplicator.run("evt_1", async { panicking().await }).await });
    assert!(ended.await.unwrap_err().is_panic());
    assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 1"));
    assert!(consumer.deduplicator.runs().is_empty());
}

async fn panicking() -> Result<String, Failure> {
    panic!("no paper")
}

#[tokio::test(start_paused = true)]
async fn at_most_once_a_failure_is_final_unless_the_handler_gives_the_key_back() {
    let (_, consumer) = at_most_once();
    let given_back = consumer.deliver_with(async |run| {
        run.release();
        Err(Failure)
    });
    assert!(matches!(given_back.await, Err(RunError::Failed(Failure))));
    assert!(matches!(consumer.deliver_with(async |_| Err(Failure)).await, Err(RunError::Failed(Failure))));
    assert!(matches!(consumer.deliver().await, Err(RunError::OutcomeUnknown)));
    assert_eq!(consumer.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_blocks_its_message_for_the_lease_or_at_most_once_for_the_retention() {
    let short: fn(Deduplicator<Faulty>) -> Deduplicator<Faulty> = |deduplicator| deduplicator.lease(LEASE / 10);
    let cases = [(short, LEASE / 10), (|deduplicator| deduplicator, LEASE), (Deduplicator::at_most_once, DAY)];
    for (setting, blocked_for) in cases {
        let (backend, _) = setup();
        let consumer = Consumer::new(&backend, setting);
        let first = consumer.hold().await;
        // Nothing that it sends arrives any more: as good as dead.
        backend.on(Command::Renew).always(Fault::LoseRequest);
        backend.on(Command::Complete).always(Fault::LoseRequest);
        let restarted = Consumer::new(&backend, |deduplicator| deduplicator);
        sleep(blocked_for - Duration::from_secs(1)).await;
        assert!(matches!(restarted.deliver().await, Err(RunError::InProgress)));
        sleep(Duration::from_secs(2)).await;
        backend.clear();
        assert_eq!(restarted.deliver().await.unwrap(), executed("receipt 1"));
        first.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_handler_says_what_becomes_of_its_value() {
    let (_, consumer) = setup();
    let released = consumer.deliver_with(async |run| {
        run.release();
        Ok("not yet".to_owned())
    });
    assert_eq!(released.await.unwrap(), Processed::Released(Bytes::from("not yet")));
    let secret = consumer.deliver_with(async |run| {
        run.keep_without_body();
        Ok("secret".to_owned())
    });
    assert_eq!(secret.await.unwrap(), executed("secret"));
    let again = consumer.deliver().await.unwrap();
    assert_eq!((again.value(), consumer.runs()), (None, 0));
    assert_eq!(again, Processed::Replayed(None));
}

#[tokio::test(start_paused = true)]
async fn a_value_too_large_for_the_backend_is_not_run_again() {
    let consumer = Deduplicator::new(MemoryBackend::with_limits(8, 1000));
    let large = async || consumer.run("evt_1", async { Ok::<_, Failure>([7; 2000]) }).await.unwrap();
    assert_eq!(large().await, Processed::Executed(Bytes::from(vec![7; 2000])));
    assert_eq!(large().await, Processed::Replayed(None));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_was_never_polled_sends_nothing() {
    let (backend, consumer) = setup();
    drop(consumer.deduplicator.run("evt_1", consumer.handle()));
    sleep(LEASE).await;
    assert_eq!((backend.sent(Command::Claim), consumer.runs()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_when_its_caller_stops() {
    let (_, consumer) = setup();
    let first = consumer.hold().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let runs = consumer.deduplicator.runs();
    let drained = tokio::spawn({
        let runs = runs.clone();
        async move { runs.drain().await }
    });
    sleep(2 * LEASE).await;
    assert!(matches!(consumer.deliver().await, Err(RunError::InProgress)));
    assert!(!drained.is_finished() && runs.len() == 1);
    consumer.open();
    drained.await.unwrap();
    assert_eq!(consumer.deliver().await.unwrap(), replayed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_when_its_caller_stops_before_the_claim_is_answered() {
    let (backend, consumer) = setup();
    let claim = backend.hold_reply(Command::Claim);
    let first = tokio::spawn(consumer.deduplicator.run("evt_1", consumer.handle()));
    claim.arrived().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    claim.open();
    consumer.deduplicator.runs().drain().await;
    assert_eq!(consumer.deliver().await.unwrap(), replayed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_the_caller_has_stopped_leaves_the_key_to_its_lease() {
    let (_, consumer) = setup();
    consumer.close();
    let first = tokio::spawn(consumer.deduplicator.run("evt_1", {
        let handled = consumer.handle();
        async {
            handled.await?;
            panicking().await
        }
    }));
    consumer.started(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    consumer.open();
    consumer.deduplicator.runs().drain().await;
    assert!(matches!(consumer.deliver().await, Err(RunError::InProgress)));
    sleep(LEASE).await;
    assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 2"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_stops_while_it_waits_changes_nothing() {
    let (backend, consumer) = setup();
    let waiting = Consumer::new(&backend, |deduplicator| deduplicator.wait(DAY));
    let token = claim_elsewhere(&backend).await;
    let waiter = tokio::spawn(waiting.deduplicator.run("evt_1", waiting.handle()));
    while backend.sent(Command::Wait) == 0 {
        tokio::task::yield_now().await;
    }
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    // Now it could run, if it were still there.
    backend.inner().release(&key(), token).await.unwrap();
    sleep(LEASE).await;
    assert_eq!((backend.sent(Command::Claim), waiting.runs()), (1, 0));
    assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_stops_before_the_conflict_is_known_does_not_wait_in_the_background() {
    let (backend, consumer) = setup();
    let waiting = Consumer::new(&backend, |deduplicator| deduplicator.wait(DAY));
    let _first = consumer.hold().await;
    let claim = backend.hold_reply(Command::Claim);
    let waiter = tokio::spawn(waiting.deduplicator.run("evt_1", waiting.handle()));
    claim.arrived().await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    claim.open();
    waiting.deduplicator.runs().drain().await;
    sleep(LEASE).await;
    assert_eq!((backend.sent(Command::Wait), waiting.runs()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_take_longer_than_its_lease() {
    let (backend, consumer) = setup();
    let elsewhere = Consumer::new(&backend, |deduplicator| deduplicator);
    let first = consumer.hold().await;
    for _ in 0..20 {
        sleep(LEASE / 2).await;
        assert!(matches!(elsewhere.deliver().await, Err(RunError::InProgress)));
    }
    consumer.open();
    assert_eq!(first.await.unwrap().unwrap(), executed("receipt 1"));
    assert_eq!(elsewhere.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_not_renewed_beyond_max_run() {
    let (backend, hung) = setup();
    let hung = Consumer { deduplicator: hung.deduplicator.max_run(2 * LEASE), ..hung };
    let _first = hung.hold().await;
    sleep(4 * LEASE).await;
    let elsewhere = Consumer::new(&backend, |deduplicator| deduplicator);
    assert_eq!(elsewhere.deliver().await.unwrap(), executed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lost_its_lease_shows_the_value_of_the_one_that_took_over() {
    let (backend, consumer) = setup();
    let first = consumer.hold().await;
    lose_leases(&backend).await;
    let token = claim_elsewhere(&backend).await;
    let theirs = Record::value(&Fingerprint::of(""), b"theirs");
    let stored = backend.inner().complete(&key(), token, &theirs, DAY).await.unwrap();
    assert_eq!(stored, Ownership::Held);
    consumer.open();
    assert_eq!(first.await.unwrap().unwrap(), replayed("theirs"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lost_its_lease_is_told_so_and_shows_nothing_of_its_own() {
    let (backend, consumer) = setup();
    let seen = Arc::new(Mutex::new(None));
    let first = tokio::spawn(consumer.deduplicator.run_with("evt_1", {
        let (handled, seen) = (consumer.handle(), Arc::clone(&seen));
        consumer.close();
        move |run| async move {
            let before = run.lease_lost();
            let value = handled.await;
            *seen.lock().unwrap() = Some((before, run.lease_lost()));
            value
        }
    }));
    consumer.started(1).await;
    lose_leases(&backend).await;
    let _token = claim_elsewhere(&backend).await;
    consumer.open();
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, RunError::LeaseLost) && error.is_retryable(), "{error:?}");
    assert_eq!(*seen.lock().unwrap(), Some((false, true)));
    assert!(matches!(consumer.deliver().await, Err(RunError::InProgress)), "their claim stands");
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_while_the_backend_is_down() {
    let (backend, consumer) = setup();
    let patience = Duration::from_secs(5);
    let consumer = Consumer { deduplicator: consumer.deduplicator.backend_timeout(patience), ..consumer };
    for fault in [Fault::ErrorBefore(BackendErrorKind::Unavailable), Fault::LoseRequest] {
        backend.on(Command::Claim).always(fault);
        let begin = Instant::now();
        let error = consumer.deliver().await.unwrap_err();
        assert!(matches!(error, RunError::BackendUnavailable(_)) && error.is_retryable(), "{error:?}");
        assert!(error.source().unwrap().to_string().starts_with("idempotency backend"), "{error:?}");
        assert_eq!(begin.elapsed() == patience, fault == Fault::LoseRequest, "only an unanswered claim takes long");
    }
    assert_eq!(consumer.runs(), 0);
    backend.clear();
    assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_record_is_not_answered_is_marked_and_stored_behind() {
    let (backend, consumer) = setup();
    backend.on(Command::Complete).always(Fault::LoseRequest);
    assert_eq!(consumer.deliver().await.unwrap(), Processed::NotStored(Bytes::from("receipt 1")));
    sleep(10 * LEASE).await;
    assert!(matches!(consumer.deliver().await, Err(RunError::InProgress)), "renewed until it is answered");
    backend.clear();
    consumer.deduplicator.runs().drain().await;
    assert_eq!(consumer.deliver().await.unwrap(), replayed("receipt 1"));
    assert_eq!(consumer.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_consumer_of_a_message_runs_once() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let billing = Consumer::new(&backend, |deduplicator| deduplicator.namespace("billing-consumer"));
    let shipping = Consumer::new(&backend, |deduplicator| deduplicator.namespace("shipping-consumer"));
    for consumer in [&billing, &shipping] {
        assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 1"));
        assert_eq!(consumer.deliver().await.unwrap(), replayed("receipt 1"));
    }
    // An operator's undo names consumer and message.
    assert!(backend.remove(&Key::new("billing-consumer", "evt_1")).await.unwrap());
    assert_eq!(billing.deliver().await.unwrap(), executed("receipt 2"));
    assert_eq!(shipping.deliver().await.unwrap(), replayed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn records_live_for_the_retention() {
    for days in [7, 400] {
        let (backend, _) = setup();
        let consumer = Consumer::new(&backend, |deduplicator| deduplicator.retention(days * DAY));
        assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 1"));
        advance(days * DAY - Duration::from_secs(1)).await;
        assert_eq!(consumer.deliver().await.unwrap(), replayed("receipt 1"));
        advance(Duration::from_secs(1)).await;
        assert_eq!(consumer.deliver().await.unwrap(), executed("receipt 2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_with_another_payload_does_not_run() {
    let (_, consumer) = setup();
    let deliver = async |message: Message| consumer.deduplicator.run(message, consumer.handle()).await;
    let with = |payload: &str| Message::new("evt_1").payload(payload);
    consumer.close();
    let first = tokio::spawn(consumer.deduplicator.run(with("ten"), consumer.handle()));
    consumer.started(1).await;
    for running in [true, false] {
        for other in [with("eleven"), Message::new("evt_1")] {
            let error = deliver(other).await.unwrap_err();
            assert!(matches!(error, RunError::Mismatch) && !error.is_retryable(), "{error:?}");
        }
        if running {
            assert!(matches!(deliver(with("ten")).await, Err(RunError::InProgress)));
            consumer.open();
            consumer.deduplicator.runs().drain().await;
        }
    }
    assert_eq!(deliver(with("ten")).await.unwrap(), replayed("receipt 1"));
    assert_eq!(first.await.unwrap().unwrap(), executed("receipt 1"));
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_key_is_known_by_its_payload() {
    let (_, consumer) = setup();
    let deliver = async |message: Message| consumer.deduplicator.run(message, consumer.handle()).await.unwrap();
    assert_eq!(deliver(Message::of_payload("celsius 21.5")).await, executed("receipt 1"));
    assert_eq!(deliver(Message::of_payload(b"celsius 21.5")).await, replayed("receipt 1"));
    assert_eq!(deliver(Message::of_payload("celsius 21.6")).await, executed("receipt 2"));
    let asked = consumer.deduplicator.run_with(Message::of_payload("celsius 21.7"), async |run| {
        if run.is_known_by_body() { Ok(b"no key") } else { Err(Failure) }
    });
    assert_eq!(asked.await.unwrap(), executed("no key"));
    // A sender cannot claim the payload of another one by naming its message like it.
    assert_eq!(deliver(Message::new("celsius 21.5")).await, executed("receipt 3"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nothing_tells_from_others_does_not_run() {
    let (backend, consumer) = setup();
    for message in [Message::new(""), Message::of_payload(""), Message::new("").payload("ten")] {
        let error = consumer.deduplicator.run(message, consumer.handle()).await.unwrap_err();
        assert!(matches!(error, RunError::KeyMissing) && !error.is_retryable(), "{error:?}");
    }
    assert_eq!((consumer.runs(), backend.log().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_run_names_its_message_in_every_attempt() {
    let (_, consumer) = setup();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for id in ["evt_1", "evt_1", "Å"] {
        let noted = Arc::clone(&seen);
        let failed = consumer.deduplicator.run_with(id, async move |run| {
            noted.lock().unwrap().push((run.key().to_owned(), run.derive(["mail"])));
            assert!(!run.is_known_by_body());
            Err::<[u8; 0], _>(Failure)
        });
        assert!(matches!(failed.await, Err(RunError::Failed(Failure))));
    }
    let seen = seen.lock().unwrap();
    assert_eq!((&*seen[0].0, &seen[0]), ("evt_1", &seen[1]));
    assert!(seen[2].0.starts_with("sha256:") && seen[2].1 != seen[0].1);
}

#[test]
fn impossible_settings_are_refused_with_the_reason() {
    type Setting = fn(Deduplicator<MemoryBackend>) -> Deduplicator<MemoryBackend>;
    let settings: [(Setting, &str); 6] = [
        (|it| it.lease(Duration::from_millis(9)), "a lease of 9ms is too short: at least 10ms"),
        (|it| it.retention(Duration::ZERO), "a retention of 0ns is too short: at least 10ms"),
        (|it| it.retention(Duration::MAX), "is too long: at most 100 years"),
        (|it| it.max_run(Duration::ZERO), "a max_run of 0ns is too short: at least 1ns"),
        (|it| it.backend_timeout(Duration::ZERO), "a backend time-out of 0ns is too short: at least 1ms"),
        (|it| it.wait(Duration::ZERO), "a wait of 0ns is too short: at least 1ms"),
    ];
    for (setting, reason) in settings {
        let deduplicator = Deduplicator::new(MemoryBackend::new());
        let panic = catch_unwind(AssertUnwindSafe(|| setting(deduplicator))).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains(reason), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_printed_for_a_log_holds_no_key() {
    let (_, consumer) = setup();
    let printed = format!("{:?} {:?}", Message::new("evt_1").payload("ten"), consumer.deduplicator);
    assert!(printed.contains("Message") && !printed.contains("evt_1") && !printed.contains("ten,"), "{printed}");
}
