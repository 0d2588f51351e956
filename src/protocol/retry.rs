//! Sending a command until it is answered.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{BackendError, timely::timely};

/// Pause after the first error; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// How often and how long a command is sent before its caller goes on without an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    until: Until,
    per_try: Duration,
    tries: u32,
}

/// The clock is read only when needed: not for what is answered at once.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// So long after the first sending.
    After(Duration),
    At(Instant),
}

impl Patience {
    /// For a step that a client waits for: up to three sendings within `timeout`. One try takes half of it at most, so
    /// that a lost reply leaves time for another.
    pub(super) fn step(timeout: Duration) -> Self {
        Self { until: Until::After(timeout), per_try: timeout / 2, tries: 3 }
    }

    /// For a step that nobody waits for: any number of sendings until `until`.
    pub(super) fn behind(until: Instant, timeout: Duration) -> Self {
        Self { until: Until::At(until), per_try: timeout, tries: u32::MAX }
    }

    fn end(&mut self) -> Instant {
        match self.until {
            Until::At(instant) => instant,
            Until::After(limit) => {
                let instant = Instant::now() + limit;
                self.until = Until::At(instant);
                instant
            }
        }
    }

    fn end_of_try(&mut self) -> Instant {
        self.end().min(Instant::now() + self.per_try)
    }
}

/// Sends a command again and again until it is answered or `patience` ends; then the last error is returned.
///
/// After a try that timed out the next one follows at once, after an error it follows a growing, jittered pause. An
/// error that is certain to have changed nothing ends it.
pub(super) fn answered<T, F>(
    mut patience: Patience,
    mut send: impl FnMut() -> F,
) -> impl Future<Output = Result<T, BackendError>>
where
    F: Future<Output = Result<T, BackendError>>,
{
    let mut pause = FIRST_PAUSE;
    async move {
        loop {
            let (error, failed) = match timely(pin!(send()), || patience.end_of_try()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if error.changed_nothing() => return Err(error),
                // Of whatever kind: even a time-out of the backend's own may have come at once.
                Ok(Err(error)) => (error, true),
                Err(_elapsed) => (BackendError::timed_out(), false),
            };
            patience.tries -= 1;
            if patience.tries > 0 && failed {
                // No longer than the patience: a lease that cannot be renewed has to be given up in time.
                let until = patience.end().min(Instant::now() + jittered(pause));
                Box::pin(sleep_until(until)).await;
                pause = (pause * 2).min(patience.per_try);
            }
            if patience.tries == 0 || Instant::now() >= patience.end() {
                return Err(error);
            }
        }
    }
}

/// Sends a command that nothing else can replace, each time for `per_try`, until it is answered or `limit` is over.
#[cfg(feature = "postgres")]
pub(crate) async fn persist<T, F>(
    limit: Duration,
    per_try: Duration,
    send: impl FnMut() -> F,
) -> Result<T, BackendError>
where
    F: Future<Output = Result<T, BackendError>>,
{
    answered(Patience::behind(Instant::now() + limit, per_try), send).await
}

/// Half to all of `pause`, so that many callers that fail together do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}
