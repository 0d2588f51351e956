//! [`Runs`]: the live runs of a layer or a deduplicator, for whoever shuts the service down.

use std::{fmt, sync::Arc};

use crate::protocol::Census;

/// The live runs of a layer or a deduplicator. Made by [`IdempotencyLayer::runs`](crate::IdempotencyLayer::runs) and
/// [`Deduplicator::runs`](crate::Deduplicator::runs).
///
/// A run is live from the sending of its claim until the backend has answered its end. A server's graceful shutdown
/// waits for its connections, not for runs whose client has left. Ending the process kills those, and each key is
/// blocked until its lease ends. So drain them last. Clones count the same runs.
///
/// ```no_run
/// # #[cfg(feature = "memory")] {
/// # async fn example(app: axum::Router, listener: tokio::net::TcpListener) -> std::io::Result<()> {
/// use std::time::Duration;
/// use tower_idempotency::{IdempotencyLayer, MemoryBackend};
///
/// let layer = IdempotencyLayer::new(MemoryBackend::new());
/// let runs = layer.runs();
/// let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
/// axum::serve(listener, app.layer(layer)).with_graceful_shutdown(stop).await?;
/// if tokio::time::timeout(Duration::from_secs(30), runs.drain()).await.is_err() {
///     eprintln!("{} runs are left to their leases", runs.len());
/// }
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone)]
pub struct Runs(Arc<Census>);

impl Runs {
    pub(crate) fn new(census: Arc<Census>) -> Self {
        Self(census)
    }

    /// How many runs are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.live()
    }

    /// Whether no run is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until no run is live; returns at once if none is. Dropping the future stops nothing but the wait.
    ///
    /// It does not keep new runs from starting: stop accepting requests first. It sets no limit of its own to the wait;
    /// a run may take an hour.
    pub async fn drain(&self) {
        self.0.none_left().await;
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("live", &self.len()).finish()
    }
}
