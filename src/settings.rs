//! [`Settings`]: what a layer's builder has put together.

use std::time::Duration;

use http::{Method, request};

use crate::{
    BackendFailure, FingerprintPolicy, KeySource, OnDisconnect, RecordPolicy, answer::Wording, closure::Closure,
};

/// A question about the head of a request.
type Predicate = dyn Fn(&request::Parts) -> bool + Send + Sync;
/// Who sent a request.
type Principal = dyn Fn(&request::Parts) -> Option<Vec<u8>> + Send + Sync;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: String,
    pub(crate) key: KeySource,
    pub(crate) require_key: bool,
    /// `None`: POST and PATCH.
    pub(crate) cover: Option<Closure<Predicate>>,
    pub(crate) scope: Option<Closure<Principal>>,
    pub(crate) fingerprint: FingerprintPolicy,
    pub(crate) backend_failure: BackendFailure,
    pub(crate) record: RecordPolicy,
    pub(crate) on_rejection: Option<Closure<Wording>>,
    /// In bytes.
    pub(crate) request_limit: usize,
    /// In bytes.
    pub(crate) response_limit: usize,
    /// How long a request waits for the one that it repeats.
    pub(crate) wait: Option<Duration>,
    pub(crate) on_disconnect: OnDisconnect,
    #[cfg(feature = "tracing")]
    pub(crate) hints: crate::observe::Hints,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            key: KeySource::default(),
            require_key: false,
            cover: None,
            scope: None,
            fingerprint: FingerprintPolicy::default(),
            backend_failure: BackendFailure::Refuse,
            record: RecordPolicy::default(),
            on_rejection: None,
            request_limit: 2 << 20,
            response_limit: 1 << 20,
            wait: None,
            on_disconnect: OnDisconnect::default(),
            #[cfg(feature = "tracing")]
            hints: crate::observe::Hints::default(),
        }
    }
}

impl Settings {
    /// Whether a request with this head is guarded when it carries a key.
    pub(crate) fn covers(&self, parts: &request::Parts) -> bool {
        match &self.cover {
            None => matches!(parts.method, Method::POST | Method::PATCH),
            Some(predicate) => predicate(parts),
        }
    }
}
