//! What clients do: each scenario is a few requests or messages with a key of its own.

mod answers;
mod hang_ups;
mod messages;
mod refusals;

use std::pin::Pin;

use tower_idempotency::{BoxBackend, Deduplicator};

use crate::caller::{Answer, Caller};

/// Whoever plays scenarios.
pub(crate) struct Player {
    pub(crate) caller: Caller,
    pub(crate) messages: Deduplicator<BoxBackend>,
}

/// A name, and what is done with a fresh key. Whether it went as its name says: on a machine that has no time a record
/// may have expired before its replay.
pub(crate) type Scenario = (&'static str, Play);
pub(crate) type Play = for<'a> fn(&'a Player, &'a str) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// All of them.
pub(crate) fn scenarios() -> impl Iterator<Item = &'static Scenario> + Clone {
    [answers::SCENARIOS, refusals::SCENARIOS, hang_ups::SCENARIOS, messages::SCENARIOS].into_iter().flatten()
}

impl Player {
    async fn ask(&self, path: &str, key: &str) -> Answer {
        self.caller.ask(path, Some(key), "").await
    }

    /// Sends the same twice, one after the other.
    async fn twice(&self, path: &str, key: &str) -> [Answer; 2] {
        [self.ask(path, key).await, self.ask(path, key).await]
    }

    /// Sends the same twice at once.
    async fn together(&self, path: &str, key: &str) -> [Answer; 2] {
        tokio::join!(self.ask(path, key), self.ask(path, key)).into()
    }
}

/// One of the two ran, and `condition` holds for the other.
fn one_ran([one, other]: [Answer; 2], condition: impl Fn(Answer) -> bool) -> bool {
    one.has_run() && condition(other) || other.has_run() && condition(one)
}
