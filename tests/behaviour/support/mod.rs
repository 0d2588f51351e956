//! Servers over real sockets, clients, handlers held at gates, and a backend that counts its commands.

mod backend;
mod client;
mod handler;
mod raw;
mod server;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use self::{
    backend::Counting,
    client::{Answer, Client, payment, request},
    handler::{Handler, created},
    raw::{RawAnswer, connect, exchange, read_until_closed},
    server::{Visits, serve, serve_tower},
};

/// How long the real world may take for what has to happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    until_some(what, async move || condition().then_some(()))
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn until_some<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "{caller}: waited for {PATIENCE:?} in vain: {what}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// No test may hang.
pub(crate) async fn bounded<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(120), test).await.expect("the test hangs")
}
