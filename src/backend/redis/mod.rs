//! [`RedisBackend`]: claims and records in Redis.

mod command;
mod connect;
mod connection;
mod driver;
mod failure;
mod link;
mod pulse;
mod script;
mod socket;
mod subscriber;
mod value;

use std::{
    fmt,
    future::ready,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use redis::Client;

pub use self::connection::RedisConnection;
use self::{link::Locate, subscriber::Channel};
use super::board::Board;
use crate::times;

/// A [`Backend`](crate::Backend) in Redis: one run per key, over any number of processes.
///
/// For Redis 7 and later, and Valkey. Redis 6 works as well: its claims are scripts, which cost the server twice as much.
///
/// ```no_run
/// # async fn start() -> Result<(), tower_idempotency::BackendError> {
/// use tower_idempotency::{IdempotencyLayer, RedisBackend};
///
/// let backend = RedisBackend::connect("redis://127.0.0.1/").await?;
/// let layer = IdempotencyLayer::new(backend);
/// # Ok(())
/// # }
/// ```
///
/// A first request costs two round trips, a replay or a conflict one, a renewal one. Keys are `idempotency:` and the 64
/// hexadecimal digits of the [`Key`](crate::Key); values begin with `IDMP1`, then `P` (in progress) or `C` (completed).
/// All of them expire by themselves.
///
/// Redis must keep what it is told: with a `maxmemory-policy` other than `noeviction`, with a failover that loses the
/// last writes, or after a restart without `appendonly`, it forgets, *and with it the promise not to run a request
/// again*.
///
/// # Connections
///
/// There are two: one for claims and reads, and one for the commands of those who hold a claim, which must not queue
/// behind a crowd of duplicates. A third, for a subscription, is opened when a request first
/// [waits](crate::IdempotencyLayer::wait). A command that is not answered within the [time-out](Self::timeout) has
/// failed; the layer sends it once more, with the same token.
///
/// For TLS turn on a TLS feature of the [`redis`] crate and use `rediss://`. For Sentinel let
/// [`connect_by`](RedisBackend::connect_by) ask for the master. For Redis Cluster (feature `cluster-async` of [`redis`])
/// make two connections:
///
/// ```no_run
/// # async fn start() -> redis::RedisResult<()> {
/// use tower_idempotency::{RedisBackend, redis::{Client, cluster::ClusterClient}};
///
/// let cluster = ClusterClient::new(["redis://10.0.0.1/", "redis://10.0.0.2/"])?;
/// let backend = RedisBackend::new(cluster.get_async_connection().await?, cluster.get_async_connection().await?)
///     .wake_by(Client::open("redis://10.0.0.1/")?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// | kind | when |
/// |---|---|
/// | `TimedOut` | no answer within the time-out |
/// | `Full` | a claim of a key that nothing is stored under, and the server is out of memory (`OOM`) |
/// | `TooLarge` | a record of 512 MiB or more |
/// | `Corrupt` | what is under the key was not written by this crate, or by a newer version; it is left as it is |
/// | `Unavailable` | everything else; the [`source`](std::error::Error::source) is a [`redis::RedisError`] |
#[derive(Clone)]
pub struct RedisBackend<C = RedisConnection> {
    /// For claims and for reading.
    claims: C,
    /// For renew, complete and release, which must not queue behind claims.
    owner: C,
    prefix: Arc<str>,
    /// Those who wait here, for keys with this prefix.
    board: Arc<Board>,
    /// Where those who wait are told. `None`: nowhere, and they poll.
    channel: Option<Channel>,
    timeout: Duration,
    /// Whether the server refused `SET` with NX and GET, as those before Redis 7 do.
    lacks_nx_get: Arc<AtomicBool>,
}

impl<C> RedisBackend<C> {
    /// A backend over two connections of any kind: one for claims and reads, and one for the commands of those who hold a
    /// claim. They must not share a socket, as clones of one connection do: a crowd of duplicates on it would keep holders
    /// from renewing their leases.
    ///
    /// Waiting duplicates poll until [`wake_by`](Self::wake_by) says how to do better.
    #[must_use]
    pub fn new(claims: C, owner: C) -> Self {
        Self {
            claims,
            owner,
            prefix: "idempotency:".into(),
            board: Arc::default(),
            channel: None,
            timeout: Duration::from_secs(1),
            lacks_nx_get: Arc::default(),
        }
    }

    /// What the names of all keys begin with: by default `idempotency:`.
    ///
    /// Backends with different prefixes share nothing. Those of one service must have the same.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        let locate = self.channel.take().map(|channel| channel.locate);
        self.listen_by(locate)
    }

    /// Lets waiting duplicates be told at once when a run has ended, in whichever process: by messages on one channel, the
    /// prefix and `done`, over one connection that `client` opens when a request first waits.
    ///
    /// [`connect`](RedisBackend::connect) turns this on. Without it waiters poll, with growing pauses of up to 500
    /// milliseconds, and so they do while the connection is down. All processes of a service should do the same: those
    /// without it send no messages. In Redis Cluster `client` may be that of any node.
    #[must_use]
    pub fn wake_by(self, client: Client) -> Self {
        self.listen_by(Some(Arc::new(move || Box::pin(ready(Ok(client.clone()))))))
    }

    fn listen_by(mut self, locate: Option<Locate>) -> Self {
        let name = format!("{}done", self.prefix);
        self.channel = locate.map(|locate| Channel { locate, name: name.into() });
        // Whoever has another prefix or channel shares no waiters.
        self.board = Arc::default();
        self
    }

    /// How long a command may take, from its sending to its answer: by default one second.
    ///
    /// It is for those who call this backend themselves, and for waiting. A layer sends a command again after half of its
    /// [`backend_timeout`](crate::IdempotencyLayer::backend_timeout), so that a lost reply is not a lost request.
    ///
    /// # Panics
    ///
    /// When it is shorter than a millisecond or longer than 100 years.
    #[must_use]
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = times::backend_timeout(timeout);
        self
    }
}

impl<C> fmt::Debug for RedisBackend<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Connections may show passwords.
        f.debug_struct("RedisBackend")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
