//! Requests that run, and those that get the answer of one that ran.

use super::{Scenario, one_ran};

/// So many keys are used in scenarios that take no time otherwise.
const KEYS: usize = 10;

pub(super) const SCENARIOS: &[Scenario] = &[
    ("no key", |player, _| Box::pin(async move { player.caller.ask("plain/quick", None, "{}").await.has_run() })),
    ("replay", |player, key| {
        Box::pin(async move {
            let mut replayed = true;
            for number in 0..KEYS {
                let [first, second] = player.twice("plain/quick", &format!("{key}-{number}")).await;
                replayed &= first.has_run() && second.replayed;
            }
            replayed
        })
    }),
    ("replay of a stream", |player, key| {
        Box::pin(async move {
            let [first, second] = player.twice("plain/stream", key).await;
            first.has_run() && second.replayed
        })
    }),
    ("event stream", |player, key| Box::pin(async move { player.ask("plain/events", key).await.has_run() })),
    ("waiter that is answered", |player, key| {
        Box::pin(async move { one_ran(player.together("patient/slow", key).await, |other| other.replayed) })
    }),
    ("waiter on a run that is renewed", |player, key| {
        Box::pin(async move { one_ran(player.together("patient/long", key).await, |other| other.replayed) })
    }),
    ("waiter that takes over", |player, key| {
        Box::pin(async move { player.together("patient/fail", key).await.iter().all(|answer| answer.status == 500) })
    }),
    ("release after a 5xx", |player, key| {
        Box::pin(async move { player.twice("plain/fail", key).await.iter().all(|answer| answer.status == 500) })
    }),
    ("release after a panic", |player, key| {
        Box::pin(async move { player.twice("plain/panic", key).await.iter().all(|answer| answer.status == 500) })
    }),
    ("body hash", |player, key| {
        Box::pin(async move {
            let first = player.caller.ask("hashed/quick", None, key.to_owned()).await;
            let second = player.caller.ask("hashed/quick", None, key.to_owned()).await;
            first.has_run() && second.replayed
        })
    }),
    ("at most once", |player, key| {
        Box::pin(async move {
            let [first, second] = player.twice("once/quick", key).await;
            first.has_run() && second.replayed
        })
    }),
];
