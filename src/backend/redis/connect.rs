//! How a backend comes to its connections.

use std::{
    future::{Future, ready},
    sync::Arc,
    time::Duration,
};

use redis::{
    Client, ErrorKind, IntoConnectionInfo, RedisResult, ServerErrorKind,
    aio::ConnectionLike,
    cmd,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::{
    RedisBackend, RedisConnection,
    failure::{in_time, is_refusal},
    link::Locate,
};
use crate::BackendError;

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
/// How long a peer may leave sent bytes unacknowledged before it is thought dead: a host that vanishes says nothing.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How servers say that a command is not for this user, or for nobody.
const FORBIDDEN: [ErrorKind; 2] =
    [ErrorKind::Server(ServerErrorKind::NoPerm), ErrorKind::Server(ServerErrorKind::ResponseError)];

impl RedisBackend {
    /// A backend over two connections to the server at `address`, such as `redis://:password@127.0.0.1:6379/0`.
    ///
    /// A server that cannot be reached is no error: the service starts, answers with 503, and works as soon as Redis
    /// does. This waits for it no longer than a time-out of one second.
    ///
    /// Sockets are opened with `TCP_NODELAY`, with keep-alive, and, on Linux, are given up when bytes stay
    /// unacknowledged for five seconds. For `rediss://` turn on a TLS feature of the [`redis`] crate.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::BackendErrorKind::Unavailable) when `address` is not one, or when the server refuses the
    /// credentials.
    pub async fn connect(address: impl IntoConnectionInfo) -> Result<Self, BackendError> {
        let info = address.into_connection_info().map_err(BackendError::unavailable)?;
        let settings = tcp_settings(info.tcp_settings());
        let client = Client::open(info.set_tcp_settings(settings)).map_err(BackendError::unavailable)?;
        Self::connect_by(move || ready(Ok(client.clone()))).await
    }

    /// A backend over two connections to the server that `locate` names, which is asked before each attempt to connect:
    /// for Sentinel, or for passwords that change.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::BackendErrorKind::Unavailable) when the server refuses the credentials. As with
    /// [`connect`](Self::connect) it is no error when none can be reached.
    pub async fn connect_by<F>(locate: impl Fn() -> F + Send + Sync + 'static) -> Result<Self, BackendError>
    where
        F: Future<Output = RedisResult<Client>> + Send + 'static,
    {
        let locate: Locate = Arc::new(move || Box::pin(locate()));
        let connection = || RedisConnection::located(Arc::clone(&locate));
        let backend = Self::new(connection(), connection()).listen_by(Some(locate));
        match backend.ping().await {
            Err(error) if is_refusal(&error) => return Err(error),
            Err(_) => {}
            #[cfg(feature = "tracing")]
            Ok(()) => backend.warn_of_eviction().await,
            #[cfg(not(feature = "tracing"))]
            Ok(()) => {}
        }
        Ok(backend)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisBackend<C> {
    /// Whether Redis answers on both connections, within the time-out: for health checks.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), BackendError> {
        let both = async {
            for connection in [&self.claims, &self.owner] {
                let mut connection = connection.clone();
                // A connection that broke while it was idle shows it now, and is made anew for the second.
                if cmd("PING").exec_async(&mut connection).await.is_err() {
                    cmd("PING").exec_async(&mut connection).await?;
                }
            }
            Ok(())
        };
        in_time(self.timeout, both).await
    }

    /// What the server does when its memory is full (`maxmemory-policy`). `None`: it does not say, as managed servers do
    /// not, and those whose ACL forbids `CONFIG`.
    ///
    /// Anything but `noeviction` means that it forgets claims and records then, *and with them the promise not to run
    /// their requests again*; `volatile-ttl` forgets claims in progress first. [`connect`](RedisBackend::connect) warns
    /// of it (feature `tracing`).
    ///
    /// # Errors
    ///
    /// Why the server does not answer.
    pub async fn eviction_policy(&self) -> Result<Option<String>, BackendError> {
        let answer = async {
            let mut get = cmd("CONFIG");
            get.arg("GET").arg("maxmemory-policy");
            match get.query_async::<Vec<(String, String)>>(&mut self.claims.clone()).await {
                Err(error) if FORBIDDEN.contains(&error.kind()) => Ok(None),
                answer => answer.map(|settings| settings.into_iter().next().map(|(_, policy)| policy)),
            }
        };
        in_time(self.timeout, answer).await
    }

    #[cfg(feature = "tracing")]
    async fn warn_of_eviction(&self) {
        match self.eviction_policy().await {
            Ok(Some(policy)) if policy != "noeviction" => tracing::warn!(
                policy,
                "Redis may forget idempotency keys when its memory is full, and their requests run again: \
                 set maxmemory-policy to noeviction"
            ),
            _ => {}
        }
    }
}

/// Small packets go out at once, and a dead peer is noticed.
fn tcp_settings(given: &TcpSettings) -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(10));
    let settings = given.clone().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    settings
}
