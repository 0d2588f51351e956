//! Clients that hang up.

use super::Scenario;
use crate::caller::stalling;

pub(super) const SCENARIOS: &[Scenario] = &[
    ("hanging up in the request", |player, key| {
        Box::pin(async move { player.caller.hang_up_after(2, "plain/quick", key, stalling()).await })
    }),
    ("hanging up in the run", |player, key| {
        Box::pin(async move {
            let left = player.caller.hang_up_after(5, "patient/slow", key, "").await;
            let later = player.ask("patient/slow", key).await;
            left && later.replayed
        })
    }),
    ("hanging up in a run that is cancelled", |player, key| {
        Box::pin(async move {
            let left = player.caller.hang_up_after(5, "cancelling/slow", key, "").await;
            left && player.ask("cancelling/slow", key).await.has_run()
        })
    }),
    ("hanging up while waiting", |player, key| {
        Box::pin(async move {
            let first = player.ask("patient/slow", key);
            let second = player.caller.hang_up_after(5, "patient/slow", key, "");
            let (first, left) = tokio::join!(first, second);
            left && first.status == 201
        })
    }),
    ("hanging up in a stream", |player, key| {
        Box::pin(async move { player.caller.hang_up_in_answer("plain/stream", key).await })
    }),
    ("hanging up in an endless stream", |player, key| {
        Box::pin(async move { player.caller.hang_up_in_answer("plain/endless-stream", key).await })
    }),
    ("hanging up in an endless event stream", |player, key| {
        Box::pin(async move { player.caller.hang_up_in_answer("plain/endless-events", key).await })
    }),
];
