//! Which message is it?

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::advance;
use tower_idempotency::{Backend, Deduplicator, Key, MemoryBackend, Message, RunError, testing::FaultyBackend};

use crate::{Consumer, DAY, Failure, executed, replayed, setup};

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
