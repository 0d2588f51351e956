//! The settings of [`IdempotencyLayer`] that say which requests are guarded, and how; the lengths and limits are in
//! `layer.rs`.

use std::sync::Arc;

use http::request;

use crate::{Backend, IdempotencyLayer, closure::Closure};

impl<B: Backend> IdempotencyLayer<B> {
    /// Which requests are guarded when they carry a key: those for whose head `predicate` is true. Default: POST and
    /// PATCH.
    ///
    /// It decides alone: a predicate that looks at the path only covers GET requests too. What it leaves out passes as
    /// if there were no layer.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use http::Method;
    /// use tower_idempotency::{IdempotencyLayer, MemoryBackend};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new())
    ///     .cover(|parts| parts.method == Method::POST && !parts.uri.path().starts_with("/live/"));
    /// # }
    /// ```
    pub fn cover(self, predicate: impl Fn(&request::Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings, _| settings.cover = Some(Closure(Arc::new(predicate))))
    }
}
