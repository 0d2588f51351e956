//! [`RedisConnection`]: a connection that is made anew after a failure.

use std::{fmt, future::Future, sync::Arc};

use redis::{Client, Cmd, Pipeline, RedisFuture, RedisResult, Value, aio::ConnectionLike};

use super::link::{Line, Link, Locate};

/// One multiplexed connection to a Redis server, which reconnects after a failure.
///
/// Clones share the connection. It is opened when the first command is sent, and reopened
///
/// - when a command finds it broken,
/// - when the server has become a replica (`READONLY`): after a failover,
/// - when a command is to be sent while an earlier one has waited for a second and nothing has been answered since.
///
/// The command that detects this fails. The next ones wait for the new connection, for at most one attempt of two
/// seconds, and get its error if the attempt fails. Attempts begin at least 50 milliseconds apart. No command is sent
/// twice, and there is no timeout here: [`RedisBackend`](super::RedisBackend) has one.
///
/// Sockets get `TCP_NODELAY` and, unless they have them, keep-alive and, on Linux, a `TCP_USER_TIMEOUT` of five
/// seconds. A linger time is not used, except with TLS.
///
/// Commands that are sent at the same time are written together, except over TLS and Unix sockets.
#[derive(Clone)]
pub struct RedisConnection(Arc<Link>);

impl RedisConnection {
    /// A connection to the server that `locate` names, which is asked before each attempt to connect.
    ///
    /// So it follows a master that Sentinel has moved, or a changed password. It does not connect yet.
    #[must_use]
    pub fn new<F>(locate: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = RedisResult<Client>> + Send + 'static,
    {
        Self::located(Arc::new(move || Box::pin(locate())))
    }

    pub(super) fn located(locate: Locate) -> Self {
        Self(Link::new(locate))
    }

    /// The line for one command.
    async fn line(&self) -> RedisResult<Line> {
        let line = match self.0.current() {
            Some(line) => line,
            // Boxed, so that it takes no room in the future of every command.
            None => Box::pin(self.0.open()).await?,
        };
        line.ask();
        Ok(line)
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut line = self.line().await?;
            let answer = line.connection.send_packed_command(command).await;
            self.0.examine(&line, answer.as_ref());
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
            let mut line = self.line().await?;
            let answers = line.connection.send_packed_commands(pipeline, offset, count).await;
            self.0.examine(&line, answers.as_ref().map(|_| &Value::Nil));
            answers
        })
    }

    fn get_db(&self) -> i64 {
        self.0.current().map_or(0, |line| line.connection.get_db())
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").field("is_open", &self.0.is_open()).finish()
    }
}
