//! How a backend comes to its connections.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use redis::{Client, ErrorKind, IntoConnectionInfo, RedisResult, ServerErrorKind, aio::ConnectionLike, cmd};

use super::{
    RedisBackend, RedisConnection,
    failure::{in_time, is_refusal},
    link::Locate,
};
use crate::BackendError;

/// How servers say that a command is not for this user, or for nobody.
const FORBIDDEN: [ErrorKind; 2] =
    [ErrorKind::Server(ServerErrorKind::NoPerm), ErrorKind::Server(ServerErrorKind::ResponseError)];

impl RedisBackend {
    /// A backend over two connections to the server at `address`, such as `redis://:password@127.0.0.1:6379/0`.
    ///
    /// It is not an error if the server cannot be reached: the service starts, responds with 503, and works as soon as
    /// Redis does. This function waits for Redis for at most one second.
    ///
    /// For `rediss://`, enable a TLS feature of the [`redis`] crate.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::BackendErrorKind::Unavailable) if `address` is invalid, or the server refuses the
    /// credentials.
    pub async fn connect(address: impl IntoConnectionInfo) -> Result<Self, BackendError> {
        let client = Client::open(address).map_err(BackendError::unavailable)?;
        Self::connect_by(move || ready(Ok(client.clone()))).await
    }

    /// A backend over two connections to the server that `locate` names, which is asked before each attempt to connect:
    /// for Sentinel, or for passwords that change.
    ///
    /// With the feature `sentinel` of [`redis`]:
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    ///
    /// use tokio::sync::Mutex;
    /// use tower_idempotency::{
    ///     RedisBackend,
    ///     redis::sentinel::{SentinelClient, SentinelServerType},
    /// };
    ///
    /// let nodes = vec!["redis://10.0.0.1:26379/", "redis://10.0.0.2:26379/"];
    /// let sentinel = SentinelClient::build(nodes, "payments", None, SentinelServerType::Master)?;
    /// let sentinel = Arc::new(Mutex::new(sentinel));
    /// let backend = RedisBackend::connect_by(move || {
    ///     let sentinel = Arc::clone(&sentinel);
    ///     async move { sentinel.lock().await.async_get_client().await }
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::BackendErrorKind::Unavailable) if the server refuses the credentials. As with
    /// [`connect`](Self::connect), it is not an error if no server can be reached.
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
    /// Checks that Redis answers on both connections within the timeout: for health checks.
    ///
    /// # Errors
    ///
    /// The reason why it does not.
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

    /// What the server does when its memory is full (`maxmemory-policy`). `None`: the server does not tell, like many
    /// managed servers and those whose ACL forbids `CONFIG`.
    ///
    /// Anything but `noeviction` means that it evicts claims and records then, *and their requests can run again*;
    /// `volatile-ttl` evicts claims in progress first. [`connect`](RedisBackend::connect) warns about it (feature
    /// `tracing`).
    ///
    /// # Errors
    ///
    /// The reason why the server does not answer.
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
