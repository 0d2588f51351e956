//! [`RedisConnection`]: a connection that is made anew after a failure.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::failure::says;

/// From one attempt to connect to the next, so that a server that is down or coming up is not flooded with them.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one attempt takes at most.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Where to connect to, asked before each attempt.
pub(super) type Locate = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = RedisResult<Client>> + Send>> + Send + Sync>;

/// One multiplexed connection to a Redis server, which is made anew after a failure.
///
/// Clones share the connection. It is opened when the first command is sent, and again when a command finds it broken,
/// or finds a server that has become a replica (`READONLY`). The command that found out fails; the next ones wait for the
/// new connection, at most one attempt of two seconds, and get its error where it fails. Attempts are 50 milliseconds
/// apart or more. No command is ever sent twice, and none has a time-out here: [`RedisBackend`](super::RedisBackend) has
/// one.
#[derive(Clone)]
pub struct RedisConnection(Arc<Link>);

struct Link {
    locate: Locate,
    state: watch::Sender<State>,
}

struct State {
    /// Number of attempts begun.
    attempts: u64,
    /// Number of attempts ended. One is under way while these differ.
    ended: u64,
    last_begun: Option<Instant>,
    connection: Option<MultiplexedConnection>,
    /// Why there is no connection.
    failure: RedisError,
}

impl RedisConnection {
    /// A connection to the server that `locate` names, which is asked again before each attempt to connect.
    ///
    /// So it follows a master that Sentinel has moved, and a password that changes. Nothing is opened yet.
    #[must_use]
    pub fn new<F>(locate: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = RedisResult<Client>> + Send + 'static,
    {
        Self::located(Arc::new(move || Box::pin(locate())))
    }

    pub(super) fn located(locate: Locate) -> Self {
        let state = State {
            attempts: 0,
            ended: 0,
            last_begun: None,
            connection: None,
            failure: io::Error::from(io::ErrorKind::NotConnected).into(),
        };
        Self(Arc::new(Link { locate, state: watch::Sender::new(state) }))
    }

    /// The connection and the number of the attempt that made it.
    async fn open(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        if let Some(open) = self.0.state.borrow().open() {
            return Ok(open);
        }
        let mut states = self.0.state.subscribe();
        let attempt = self.0.begin();
        let state = states.wait_for(|state| state.ended >= attempt).await;
        // The sender cannot be gone: this very future holds it.
        let state = state.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
        state.open().ok_or_else(|| state.failure.clone())
    }

    /// Gives up the connection that attempt made if `answer` shows that it is of no more use.
    fn examine(&self, attempt: u64, answer: &RedisResult<Value>) {
        let error = match answer {
            Err(error) => error.clone(),
            Ok(Value::ServerError(error)) => error.clone().into(),
            Ok(_) => return,
        };
        if error.is_unrecoverable_error() || says(&error, "READONLY") {
            self.0.lose(attempt, &error);
        }
    }
}

impl State {
    fn open(&self) -> Option<(u64, MultiplexedConnection)> {
        self.connection.clone().map(|connection| (self.ended, connection))
    }
}

impl Link {
    /// Begins an attempt unless one is under way, and returns its number.
    ///
    /// It has a task of its own: callers come and go, and none of them may be patient enough to see it through.
    fn begin(self: &Arc<Self>) -> u64 {
        let mut attempt = 0;
        let mut begun = None;
        self.state.send_if_modified(|state| {
            if state.connection.is_none() && state.attempts == state.ended {
                let now = Instant::now();
                let start = state.last_begun.map_or(now, |last| now.max(last + PAUSE));
                state.attempts += 1;
                state.last_begun = Some(start);
                begun = Some(start);
            }
            attempt = state.attempts;
            false
        });
        // Not under the lock: a runtime that shuts down drops the task at once, and that takes the lock.
        if let Some(start) = begun {
            tokio::spawn(Attempt { link: Arc::clone(self), result: None }.make(start));
        }
        attempt
    }

    fn lose(self: &Arc<Self>, attempt: u64, error: &RedisError) {
        let lost = self.state.send_if_modified(|state| {
            let is_current = state.connection.is_some() && state.ended == attempt;
            if is_current {
                state.connection = None;
                state.failure = error.clone();
            }
            is_current
        });
        if lost {
            self.begin();
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let client = (self.locate)().await?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// An attempt under way. It ends when this is dropped, perhaps together with its runtime.
struct Attempt {
    link: Arc<Link>,
    result: Option<RedisResult<MultiplexedConnection>>,
}

impl Attempt {
    async fn make(mut self, start: Instant) {
        sleep_until(start).await;
        self.result = timeout(ATTEMPT, self.link.connect()).await.ok();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let result = self.result.take();
        self.link.state.send_modify(|state| {
            state.ended = state.attempts;
            match result {
                Some(Ok(connection)) => state.connection = Some(connection),
                Some(Err(error)) => state.failure = error,
                None => state.failure = io::Error::from(io::ErrorKind::TimedOut).into(),
            }
        });
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (attempt, mut connection) = self.open().await?;
            let answer = connection.send_packed_command(command).await;
            self.examine(attempt, &answer);
            answer
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (attempt, mut connection) = self.open().await?;
            let answers = connection.send_packed_commands(pipeline, offset, count).await;
            if let Err(error) = &answers {
                self.examine(attempt, &Err(error.clone()));
            }
            answers
        })
    }

    fn get_db(&self) -> i64 {
        self.0.state.borrow().connection.as_ref().map_or(0, MultiplexedConnection::get_db)
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").field("open", &self.0.state.borrow().connection.is_some()).finish()
    }
}
