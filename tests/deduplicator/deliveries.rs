//! What the deliveries of one message get.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_idempotency::{Processed, RunError, testing::Command};

use crate::{Consumer, Failure, executed, replayed, setup};

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
