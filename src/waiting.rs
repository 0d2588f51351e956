//! Claiming a key that another request may hold: waiting for one's turn.

use std::{future::poll_fn, time::Duration};

use http::Request;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use tower_service::Service;

use crate::{
    Backend, Fingerprint, Key,
    future::Client,
    identity::Identity,
    layer::Shared,
    protocol::{Lease, Refusal},
    settings::Settings,
};

/// How many requests of a layer wait at most. Each keeps its body in memory, so they have to be few.
const SEATS: usize = 1024;

/// How long a request that is known by its body waits by default: its sender does not know of keys, and could not act on a
/// conflict.
const WAIT_BY_BODY: Duration = Duration::from_secs(30);

impl Settings {
    /// How long a duplicate of `identity` waits. `None`: not at all.
    pub(crate) fn wait_for(&self, identity: &Identity) -> Option<Duration> {
        self.wait.or(identity.window.map(|_| WAIT_BY_BODY))
    }
}

/// Where the requests of a layer wait.
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    seats: Semaphore,
}

/// The place of one waiting request, and until when it may stay.
struct Seat<'a> {
    until: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Default for WaitingRoom {
    fn default() -> Self {
        Self { seats: Semaphore::new(SEATS) }
    }
}

impl WaitingRoom {
    fn enter(&self, max: Duration) -> Option<Seat<'_>> {
        let permit = self.seats.try_acquire().ok()?;
        Some(Seat { until: Instant::now() + max, _permit: permit })
    }
}

/// Claims `key` for its request, or finds out why the request does not run.
///
/// Where the same request is in progress, this one waits for as long as `wait` says. Of those that wait while a run
/// gives its key back, the backend lets one claim it; the others go on waiting. With a lease `inner` is ready.
///
/// # Errors
///
/// That of `inner`, which has to get ready again after a wait.
pub(crate) async fn claim<B, S, R>(
    shared: &Shared<B>,
    inner: &mut S,
    key: &Key,
    fingerprint: &Fingerprint,
    wait: Option<Duration>,
    client: &Client,
) -> Result<Result<Lease<B>, Refusal>, S::Error>
where
    B: Backend,
    S: Service<Request<R>> + Clone,
{
    let mut seat = None;
    loop {
        client.may_leave();
        let claimed = shared.protocol.claim(key, fingerprint).await;
        // Once the client has gone nobody waits for the answer.
        if !matches!(claimed, Err(Refusal::InProgress)) || client.has_left() {
            return Ok(claimed);
        }
        seat = seat.or_else(|| shared.waiting_room.enter(wait?));
        let Some(until) = seat.as_ref().map(|seat| seat.until).filter(|until| Instant::now() < *until) else {
            return Ok(claimed);
        };

        client.takes_request_along();
        // A ready service may hold what others need, such as a permit: it is given back during the wait.
        *inner = inner.clone();
        if let Err(refusal) = Box::pin(shared.protocol.until_free(key, fingerprint, until)).await {
            return Ok(Err(refusal));
        }
        // Before the claim: a claim that waits for its service would keep the key from everybody.
        match Box::pin(timeout_at(until, poll_fn(|cx| inner.poll_ready(cx)))).await {
            Ok(ready) => ready?,
            Err(_elapsed) => return Ok(Err(Refusal::InProgress)),
        }
    }
}
