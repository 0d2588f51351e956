//! What becomes of a run that fails or panics, and of what its handler says.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;
use tower_idempotency::{
    Deduplicator, MemoryBackend, Processed, RunError,
    testing::{Command, Fault},
};

use crate::{Consumer, DAY, Failure, Faulty, LEASE, at_most_once, executed, panicking, setup};

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
