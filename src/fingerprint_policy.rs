//! [`FingerprintPolicy`]: what makes two requests the same.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, request::Parts};
use sha2::{Digest, Sha256};

use crate::{
    Fingerprint,
    closure::Closure,
    fingerprint::{credentials, update_target},
    key::update_prefixed,
    policy::header_name,
};

/// What makes two requests with the same key the same request. Default: method, authority, path, query and the bytes of
/// the body.
///
/// The authority is that of the target or the `Host` header (RFC 9110, section 7.2), in lower case and without the
/// ports 80 and 443; if they differ, both count. Path and query count exactly as sent. Other headers do not count, not
/// even `Content-Type`.
///
/// The credentials always count: another `Authorization` header, or another principal if a
/// [`scope`](crate::IdempotencyLayer::scope) is set, means another caller.
///
/// Changing the policy changes fingerprints: a retry of a request from before the change may get 422.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/send.rs"));
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use axum::{Router, routing::post};
/// use tower_idempotency::{FingerprintPolicy, IdempotencyLayer, MemoryBackend, Outcome};
///
/// // Clients add the time to the body of each attempt, after a semicolon; the API version counts too.
/// let policy = FingerprintPolicy::by(|parts, body| {
///     let order = body.split(|&byte| byte == b';').next().unwrap_or_default();
///     [parts.uri.path().as_bytes(), b"\n", order].concat()
/// });
/// let layer = IdempotencyLayer::new(MemoryBackend::new()).fingerprint(policy.header("api-version"));
/// let app = Router::new().route("/payments", post(|| async {})).layer(layer);
///
/// // `send` posts a body with headers, and returns the `Outcome`.
/// let (old, new) = (("api-version", "1"), ("api-version", "2"));
/// let key = ("idempotency-key", "k-1");
/// assert_eq!(send(&app, &[key, old], "amount=12;10:31").await, Some(Outcome::Executed));
/// assert_eq!(send(&app, &[key, old], "amount=12;10:32").await, Some(Outcome::Replayed));
/// assert_eq!(send(&app, &[key, old], "amount=13;10:33").await, Some(Outcome::Mismatch));
/// assert_eq!(send(&app, &[key, new], "amount=12;10:34").await, Some(Outcome::Mismatch));
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct FingerprintPolicy {
    base: Base,
    headers: Vec<HeaderName>,
}

#[derive(Debug, Clone, Default)]
enum Base {
    #[default]
    RawBody,
    #[cfg(feature = "json")]
    CanonicalJson,
    Nothing,
    Chosen(Closure<Choice>),
}

type Choice = dyn Fn(&Parts, &[u8]) -> Vec<u8> + Send + Sync;

impl FingerprintPolicy {
    /// JSON bodies with the same meaning are equal: the order of members, whitespace, and the spelling of numbers and
    /// strings do not count (RFC 8785). Needs the feature `json`.
    ///
    /// A body is still compared byte by byte if its `Content-Type` is not `application/json` or `+json`, if it is not
    /// valid JSON, or if it contains a number beyond 2^53, which RFC 8785 would round: two account numbers must not
    /// become equal. Of several members with the same name, the last counts. Fractions are compared with the precision
    /// of a double, at least 15 digits: if they differ only beyond that, they are equal.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/send.rs"));
    /// # #[cfg(feature = "memory")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use axum::{Router, routing::post};
    /// use tower_idempotency::{FingerprintPolicy, IdempotencyLayer, MemoryBackend, Outcome};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new()).fingerprint(FingerprintPolicy::canonical_json());
    /// let app = Router::new().route("/payments", post(|| async {})).layer(layer);
    ///
    /// // `send` posts a body with headers, and returns the `Outcome`.
    /// let headers = [("idempotency-key", "k-1"), ("content-type", "application/json")];
    /// assert_eq!(send(&app, &headers, r#"{"amount": 12, "to": "ann"}"#).await, Some(Outcome::Executed));
    /// assert_eq!(send(&app, &headers, r#"{"to":"ann","amount":1.2e1}"#).await, Some(Outcome::Replayed));
    /// assert_eq!(send(&app, &headers, r#"{"to":"bob","amount":12}"#).await, Some(Outcome::Mismatch));
    /// # }
    /// # #[cfg(not(feature = "memory"))] fn main() {}
    /// ```
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn canonical_json() -> Self {
        Self { base: Base::CanonicalJson, ..Self::default() }
    }

    /// All requests of one caller with the same key are equal: the key alone decides.
    pub fn none() -> Self {
        Self { base: Base::Nothing, ..Self::default() }
    }

    /// Requests for which `choice`, given head and body, returns the same bytes are equal. Nothing else counts, not
    /// even method and path, unless `choice` includes them.
    pub fn by<T: AsRef<[u8]>>(choice: impl Fn(&Parts, &[u8]) -> T + Send + Sync + 'static) -> Self {
        let choice = move |parts: &Parts, body: &[u8]| choice(parts, body).as_ref().to_vec();
        Self { base: Base::Chosen(Closure(Arc::new(choice))), ..Self::default() }
    }

    /// The header `name` counts as well: all its lines, in their order, and whether it is present at all.
    ///
    /// # Panics
    ///
    /// When `name` is not a header name.
    #[track_caller]
    pub fn header(mut self, name: &str) -> Self {
        self.headers.push(header_name(name));
        self
    }

    /// Whether the header `name` counts.
    #[cfg(feature = "tracing")]
    pub(crate) fn reads(&self, name: &HeaderName) -> bool {
        self.headers.contains(name)
    }

    pub(crate) fn fingerprint(&self, parts: &Parts, body: &[u8]) -> Fingerprint {
        let mut digest = Sha256::new();
        let rest: Cow<'_, [u8]> = match &self.base {
            Base::RawBody => body.into(),
            #[cfg(feature = "json")]
            Base::CanonicalJson => {
                crate::json::canonical_body(&parts.headers, body).map_or(Cow::Borrowed(body), Cow::Owned)
            }
            Base::Nothing => Cow::Borrowed(&[]),
            Base::Chosen(choice) => choice(parts, body).into(),
        };
        if !matches!(self.base, Base::Nothing | Base::Chosen(_)) {
            update_target(&mut digest, parts);
        }
        self.headers.iter().for_each(|name| update_lines(&mut digest, &parts.headers, name));
        digest.update(rest);
        Fingerprint::new(digest.finalize().into(), credentials(&parts.headers))
    }
}

/// The number of lines stands in front, so that no line can be taken for one of the next header, or for the body.
fn update_lines(digest: &mut Sha256, headers: &HeaderMap, name: &HeaderName) {
    let lines = headers.get_all(name);
    digest.update((lines.iter().count() as u64).to_be_bytes());
    lines.iter().for_each(|line| update_prefixed(digest, line.as_bytes()));
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// Nodes of two releases share a store while one replaces the other: a release that takes the fingerprint otherwise
    /// answers retries with 422.
    #[test]
    fn the_default_is_pinned() {
        let request = Request::post("http://api.example/payments?currency=eur").header("authorization", "Bearer a");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let fingerprint = FingerprintPolicy::default().fingerprint(&parts, b"amount=12");
        let hex: String = fingerprint.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "fd7eacfe43332feda2ac523c9f5b5309af71d28acfbe90286b55abbb25fab5e2\
             66bf529755548910d4ece6d0130f2cd8"
        );
    }
}
