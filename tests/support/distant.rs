//! A backend that is a round trip away.

#[path = "way.rs"]
pub(crate) mod way;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, task::yield_now, time::sleep};
use tower_idempotency::MemoryBackend;

use self::way::{Behind, Way};

/// A [`MemoryBackend`] that says that it is not in this process, with the round trips that this costs.
pub(crate) type Distant = Behind<Connection, MemoryBackend>;

/// A connection to a distant store.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    round_trip: Duration,
    /// Held by the command that is on its way, where they go one at a time.
    turn: Option<Arc<Mutex<()>>>,
}

impl Distant {
    pub(crate) fn new(memory: MemoryBackend, round_trip: Duration) -> Self {
        Self { way: Connection { round_trip, turn: None }, backend: memory, local: false }
    }

    /// Behind a connection that takes one command at a time, in the order in which they are sent.
    #[allow(dead_code, reason = "not every test target needs it")]
    pub(crate) fn one_at_a_time(mut self) -> Self {
        self.way.turn = Some(Arc::default());
        self
    }
}

impl Connection {
    async fn half_way(&self) {
        if self.round_trip.is_zero() {
            yield_now().await;
        } else {
            sleep(self.round_trip / 2).await;
        }
    }
}

impl Way for Connection {
    async fn there_and_back<T: Send>(&self, command: impl Future<Output = T> + Send) -> T {
        let _turn = match &self.turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        self.half_way().await;
        let answer = command.await;
        self.half_way().await;
        answer
    }
}
