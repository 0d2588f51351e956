//! [`BodyHash`]: requests without a key, known by what they say.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use sha2::{Digest, Sha256};

use crate::{
    fingerprint::update_target, grpc, header_key::KeyText, identity::Identity, key::update_prefixed,
    settings::Settings, times,
};

/// Identifies a request without a key by the SHA-256 digest of its method, authority, path, query and body: if the same
/// request is sent again within the window, it is a duplicate.
///
/// Clients did not ask for this protection, so it interferes as little as possible. The following requests run
/// unrecorded: those with an empty body; with a body above the [limit](crate::IdempotencyLayer::limits), or one that
/// takes longer than 30 seconds; gRPC calls; and all requests while the backend does not answer. A response with
/// `Set-Cookie` is not recorded. A duplicate waits for the first run, for at most 30 seconds unless
/// [`wait`](crate::IdempotencyLayer::wait) is set, and then gets 409. A body that breaks off gets 400.
///
/// A user who intentionally sends the same thing twice within the window gets the first response: keep the window
/// short.
///
/// If a key is found, it takes precedence over the body. A key that a client sends never equals that of a body.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/send.rs"));
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use axum::{Router, routing::post};
/// use tower_idempotency::{BodyHash, IdempotencyLayer, MemoryBackend, Outcome};
///
/// let hash = BodyHash::per_caller(Duration::from_secs(10)); // a double click pays once
/// let layer = IdempotencyLayer::new(MemoryBackend::new()).or_body_hash(hash);
/// let app = Router::new().route("/payments", post(|| async {})).layer(layer);
///
/// // `send` posts a body with headers, and returns the `Outcome`.
/// let (ann, bob) = ([("cookie", "session=a")], [("cookie", "session=b")]);
/// assert_eq!(send(&app, &ann, "amount=12").await, Some(Outcome::Executed));
/// assert_eq!(send(&app, &ann, "amount=12").await, Some(Outcome::Replayed));
/// assert_eq!(send(&app, &ann, "amount=13").await, Some(Outcome::Executed));
/// assert_eq!(send(&app, &bob, "amount=12").await, Some(Outcome::Executed));
/// assert_eq!(send(&app, &[], "amount=12").await, None); // a stranger: bypassed
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct BodyHash {
    /// How long a record lives.
    window: Duration,
    callers_differ: bool,
}

impl BodyHash {
    /// Tells callers apart: by their [`scope`](crate::IdempotencyLayer::scope), or, if none is set, by their
    /// `Authorization` and `Cookie` headers. A request with none of these runs unrecorded, since two strangers must
    /// never share a response. The same goes for two users who share a cookie, such as one for the language: set a
    /// scope if cookies do not identify a user.
    ///
    /// `window` is how long a response is replayed.
    ///
    /// # Panics
    ///
    /// When `window` is shorter than 10 milliseconds, as no retry would find a record, or longer than 100 years.
    #[track_caller]
    pub fn per_caller(window: Duration) -> Self {
        Self::new(window, true)
    }

    /// Does not tell callers apart, which is right for webhooks and internal services. If a
    /// [`scope`](crate::IdempotencyLayer::scope) is set, callers still differ.
    ///
    /// `window` is how long a response is replayed.
    ///
    /// # Panics
    ///
    /// When `window` is shorter than 10 milliseconds, as no retry would find a record, or longer than 100 years.
    #[track_caller]
    pub fn any_caller(window: Duration) -> Self {
        Self::new(window, false)
    }

    #[track_caller]
    fn new(window: Duration, callers_differ: bool) -> Self {
        let window = times::window(window);
        Self { window, callers_differ }
    }

    /// Whether a request with this head can be known by its body.
    pub(crate) fn applies(&self, settings: &Settings, parts: &Parts) -> bool {
        let known =
            settings.scope(parts).is_ok_and(|scope| scope.is_some() || !self.callers_differ || has_caller(parts));
        let is_grpc = grpc::is_any_grpc(&parts.headers);
        if !known && !is_grpc {
            settings.hint_at_strangers();
        }
        known && !is_grpc
    }

    /// What a request to which this [applies](Self::applies) is known by. `None`: it has no body.
    pub(crate) fn identity(&self, settings: &Settings, parts: &Parts, body: &[u8]) -> Option<Identity> {
        if body.is_empty() {
            return None;
        }
        let scope = settings.scope(parts).ok()?;
        let mut digest = Sha256::new();
        update_target(&mut digest, parts);
        let by_headers = self.callers_differ && scope.is_none();
        digest.update([u8::from(by_headers)]);
        if by_headers {
            CALLER.iter().for_each(|name| update_prefixed(&mut digest, &lines(&parts.headers, name)));
        }
        digest.update(body);
        Some(Identity { text: KeyText::of_digest(digest.finalize().into()), scope, window: Some(self.window) })
    }
}

/// The headers that name a caller.
const CALLER: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

fn has_caller(parts: &Parts) -> bool {
    CALLER.iter().any(|name| parts.headers.get_all(name).iter().any(|line| !line.as_bytes().trim_ascii().is_empty()))
}

/// All lines of a header in one: HTTP/2 splits cookies into lines (RFC 9113, 8.2.3).
fn lines(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..])
}
