//! Callers that stop.

use tokio::time::sleep;
use tower_idempotency::{Backend, RunError, testing::Command};

use crate::{Consumer, DAY, LEASE, claim_elsewhere, executed, key, panicking, replayed, setup};

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
