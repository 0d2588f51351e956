//! [`Link`]: the connection behind all clones of a [`RedisConnection`](super::RedisConnection), and the attempts to make
//! it.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use redis::{Client, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{driver, failure::says, pulse::Pulse, socket::client};

/// From one attempt to connect to the next, so that a server that is down or coming up is not flooded with them.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one attempt takes at most.
const ATTEMPT: Duration = Duration::from_secs(2);

/// One that takes longer is not worked on: its runtime stands still, as a handler blocks it, and others may not.
const OVERDUE: Duration = Duration::from_secs(4);

/// Where to connect to, asked before each attempt.
pub(super) type Locate = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = RedisResult<Client>> + Send>> + Send + Sync>;

pub(super) struct Link {
    locate: Locate,
    state: watch::Sender<State>,
}

struct State {
    /// The last attempt that has begun: their number.
    attempts: u64,
    /// The last attempt that has ended. One is under way while these differ, and it is not overdue.
    ended: u64,
    last_begun: Option<Instant>,
    line: Option<Line>,
    /// Why there is no line.
    failure: RedisError,
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Line {
    // Before the connection: the driver, woken when the last of those is dropped, ends when nobody holds this.
    pulse: Arc<Pulse>,
    pub(super) connection: MultiplexedConnection,
    attempt: u64,
}

impl Link {
    pub(super) fn new(locate: Locate) -> Arc<Self> {
        let failure = io::Error::from(io::ErrorKind::NotConnected).into();
        let state = State { attempts: 0, ended: 0, last_begun: None, line: None, failure };
        Arc::new(Self { locate, state: watch::Sender::new(state) })
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.borrow().line.is_some()
    }

    /// The line, if it is open and answers.
    pub(super) fn current(self: &Arc<Self>) -> Option<Line> {
        let line = self.state.borrow().line.clone()?;
        if !line.pulse.is_silent() {
            return Some(line);
        }
        self.lose(&line, &io::Error::from(io::ErrorKind::TimedOut).into());
        None
    }

    /// The line, once it is open, or why it cannot be opened.
    pub(super) async fn open(self: &Arc<Self>) -> RedisResult<Line> {
        let mut states = self.state.subscribe();
        let attempt = self.begin();
        let state = states.wait_for(|state| state.ended >= attempt).await;
        // The sender cannot be gone: `self` holds it.
        let state = state.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
        state.line.clone().ok_or_else(|| state.failure.clone())
    }

    /// Begins an attempt unless one is under way, and returns its number.
    ///
    /// It has a task of its own: callers come and go, and none of them may be patient enough to see it through.
    fn begin(self: &Arc<Self>) -> u64 {
        let mut attempt = 0;
        let mut begun = None;
        self.state.send_if_modified(|state| {
            let now = Instant::now();
            if state.line.is_none() && !state.is_attempted(now) {
                let start = state.last_begun.map_or(now, |last| now.max(last + PAUSE));
                state.attempts += 1;
                state.last_begun = Some(start);
                begun = Some((start, state.attempts));
            }
            attempt = state.attempts;
            false
        });
        // Not under the lock: a runtime that shuts down drops the task at once, and that takes the lock.
        if let Some((start, number)) = begun {
            tokio::spawn(Attempt { link: Arc::clone(self), number, result: None }.make(start));
        }
        attempt
    }

    /// Gives up `line` if an answer of its shows that it is of no more use.
    pub(super) fn examine(self: &Arc<Self>, line: &Line, answer: Result<&Value, &RedisError>) {
        line.pulse.answer();
        let error = match answer {
            Err(error) => error.clone(),
            Ok(Value::ServerError(error)) => error.clone().into(),
            Ok(_) => return,
        };
        if error.is_unrecoverable_error() || says(&error, "READONLY") {
            self.lose(line, &error);
        }
    }

    fn lose(self: &Arc<Self>, line: &Line, error: &RedisError) {
        let lost = self.state.send_if_modified(|state| {
            let is_current = state.line.as_ref().is_some_and(|current| current.attempt == line.attempt);
            if is_current {
                state.line = None;
                state.failure = error.clone();
            }
            is_current
        });
        if lost {
            self.begin();
        }
    }

    async fn connect(&self) -> RedisResult<(Arc<Pulse>, MultiplexedConnection)> {
        driver::connect(&client(&self.locate).await?).await
    }
}

impl State {
    fn is_attempted(&self, now: Instant) -> bool {
        self.attempts != self.ended && self.last_begun.is_some_and(|begun| now < begun + OVERDUE)
    }
}

impl Line {
    /// Notes that it is asked something.
    pub(super) fn ask(&self) {
        self.pulse.ask();
    }
}

/// An attempt under way. It ends when this is dropped, perhaps together with its runtime.
struct Attempt {
    link: Arc<Link>,
    number: u64,
    result: Option<RedisResult<(Arc<Pulse>, MultiplexedConnection)>>,
}

impl Attempt {
    async fn make(mut self, start: Instant) {
        sleep_until(start).await;
        self.result = timeout(ATTEMPT, self.link.connect()).await.ok();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut).into());
        let result = self.result.take().unwrap_or_else(timed_out);
        self.link.state.send_modify(|state| {
            if self.number < state.ended {
                return; // it was overdue, and another has ended
            }
            state.ended = self.number;
            match result {
                Ok((pulse, connection)) => state.line = Some(Line { pulse, connection, attempt: self.number }),
                Err(error) => state.failure = error,
            }
        });
    }
}

#[cfg(test)]
mod tests;
