//! Messages that are not HTTP.

use std::{convert::Infallible, time::Duration};

use tokio::time::{sleep, timeout};
use tower_idempotency::{BoxBackend, Deduplicator, Processed, RunError};

use super::Scenario;
use crate::service::Own;

type Result<E> = std::result::Result<Processed, RunError<E>>;

pub(super) const SCENARIOS: &[Scenario] = &[
    ("message", |player, key| {
        Box::pin(async move {
            let [first, second] = [process(&player.messages, key).await, process(&player.messages, key).await];
            has_run(&first) && is_replay(&second)
        })
    }),
    ("message that waits", |player, key| {
        Box::pin(async move {
            let (one, other) = tokio::join!(process(&player.messages, key), process(&player.messages, key));
            has_run(&one) && is_replay(&other) || has_run(&other) && is_replay(&one)
        })
    }),
    ("message whose handler fails", |player, key| {
        Box::pin(async move {
            let first = player.messages.run(key, async { Err::<&[u8], _>("no") }).await;
            let second = process(&player.messages, key).await;
            matches!(first, Err(RunError::Failed("no"))) && has_run(&second)
        })
    }),
    ("message whose handler panics", |player, key| {
        Box::pin(async move {
            let run = player.messages.run::<&[u8], Infallible, _>(key, async { std::panic::panic_any(Own) });
            let first = tokio::spawn(run).await;
            first.is_err_and(|error| error.is_panic()) && has_run(&process(&player.messages, key).await)
        })
    }),
    ("message whose consumer leaves", |player, key| {
        Box::pin(async move {
            let left = timeout(Duration::from_millis(1), process(&player.messages, key)).await.is_err();
            let later = process(&player.messages, key).await;
            left && (is_replay(&later) || has_run(&later))
        })
    }),
];

async fn process(messages: &Deduplicator<BoxBackend>, key: &str) -> Result<Infallible> {
    let handler = async {
        sleep(Duration::from_millis(5)).await;
        Ok("processed")
    };
    messages.run(key, handler).await
}

fn has_run<E>(result: &Result<E>) -> bool {
    matches!(result, Ok(Processed::Executed(_)))
}

fn is_replay<E>(result: &Result<E>) -> bool {
    matches!(result, Ok(Processed::Replayed(Some(_))))
}
