//! Requests that are refused, and responses that are not kept.

use super::{Scenario, one_ran};
use crate::{caller::undeclared, service::LIMIT};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("conflict", |player, key| {
        Box::pin(async move { one_ran(player.together("plain/slow", key).await, |other| other.status == 409) })
    }),
    ("mismatch", |player, key| {
        Box::pin(async move {
            player.caller.ask("plain/quick", Some(key), "one").await;
            player.caller.ask("plain/quick", Some(key), "another").await.status == 422
        })
    }),
    ("waiter that gives up", |player, key| {
        Box::pin(async move { one_ran(player.together("impatient/slow", key).await, |other| other.status == 409) })
    }),
    ("request over the limit", |player, key| {
        Box::pin(async move { player.caller.ask("plain/quick", Some(key), vec![b'l'; LIMIT + 1]).await.status == 413 })
    }),
    ("request of undeclared length over the limit", |player, key| {
        Box::pin(async move { player.caller.ask("plain/quick", Some(key), undeclared(2 * LIMIT)).await.status == 413 })
    }),
    ("response over the limit", |player, key| {
        Box::pin(async move {
            let [first, second] = player.twice("plain/large", key).await;
            first.has_run() && second.status == 409
        })
    }),
    ("stream over the limit", |player, key| {
        Box::pin(async move {
            let [first, second] = player.twice("plain/large-stream", key).await;
            first.has_run() && second.status == 409
        })
    }),
    ("panic of what runs at most once", |player, key| {
        Box::pin(async move {
            let [first, second] = player.twice("once/panic", key).await;
            first.status == 500 && second.status == 409
        })
    }),
];
