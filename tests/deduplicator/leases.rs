//! Leases that are lost, and backends that do not answer.

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tower_idempotency::{
    Backend, BackendErrorKind, Fingerprint, Ownership, Processed, Record, RunError,
    testing::{Command, Fault},
};

use crate::{Consumer, DAY, LEASE, claim_elsewhere, executed, key, lose_leases, replayed, setup};

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
