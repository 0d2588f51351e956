//! [`KeySource`]: where a request carries its key.

use std::sync::Arc;

use http::{HeaderName, request::Parts};

use crate::{BodyHash, Rejection, closure::Closure, header_key::KeyText, policy::header_name};

/// Where a request carries its key. Default: the header `X-Idempotency-Key`, or `Idempotency-Key` as in the IETF draft.
///
/// A key in a header is 1 to 255 visible ASCII characters, bare or as a String of RFC 8941, section 3.3.3: `"k-1"` is
/// the key `k-1`. Anything else, several lines, or two different keys are refused with 400. Keys from elsewhere may be
/// any text: if it does not consist of 1 to 255 visible ASCII characters, its SHA-256 digest is the key. An empty text
/// is no key.
///
/// Senders of webhooks give each event an id, usually in a header, and repeat it in every delivery:
///
/// | sender | header |
/// |---|---|
/// | [Standard Webhooks](https://www.standardwebhooks.com) | `webhook-id` |
/// | Svix | `svix-id` |
/// | GitHub | `x-github-delivery` |
/// | Stripe | none: take `/id` of the JSON body |
///
/// Clients of some APIs send their keys in other headers, such as `paypal-request-id`, or in the body: see [the
/// complete table](crate#where-senders-put-their-keys).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/send.rs"));
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use axum::{Router, routing::post};
/// use tower_idempotency::{IdempotencyLayer, KeySource, MemoryBackend, Outcome};
///
/// let webhooks = KeySource::header("webhook-id").or(KeySource::header("svix-id"));
/// let layer = IdempotencyLayer::new(MemoryBackend::new()).key(webhooks);
/// let app = Router::new().route("/payments", post(|| async {})).layer(layer);
///
/// // `send` posts a body with headers, and returns the `Outcome`.
/// assert_eq!(send(&app, &[("webhook-id", "msg_1")], "paid").await, Some(Outcome::Executed));
/// assert_eq!(send(&app, &[("svix-id", "msg_1")], "paid").await, Some(Outcome::Replayed));
/// assert_eq!(send(&app, &[("idempotency-key", "msg_1")], "paid").await, None); // another header now
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KeySource {
    first_of: Vec<Source>,
    /// What a request is known by where none of them finds a key.
    pub(crate) body_hash: Option<BodyHash>,
}

#[derive(Debug, Clone)]
enum Source {
    /// `X-Idempotency-Key` and its standard twin, which may both be there with one key.
    Twins,
    Header(HeaderName),
    #[cfg(feature = "json")]
    JsonPointers(Vec<String>),
    Chosen(Closure<Choice>),
}

type Choice = dyn Fn(&Parts, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// What became of looking for a key.
pub(crate) enum Found {
    Key(KeyText),
    Nothing,
    /// It may be in the body, which has not been read.
    Unread,
}

impl Default for KeySource {
    fn default() -> Self {
        Self::only(Source::Twins)
    }
}

/// No key at all: every request is known by its body.
impl From<BodyHash> for KeySource {
    fn from(body_hash: BodyHash) -> Self {
        Self { first_of: Vec::new(), body_hash: Some(body_hash) }
    }
}

impl KeySource {
    /// The header `name`, with one key in one header line.
    ///
    /// # Panics
    ///
    /// When `name` is not a header name.
    #[track_caller]
    pub fn header(name: &str) -> Self {
        Self::only(Source::Header(header_name(name)))
    }

    /// The value in the JSON body to which `pointer` (RFC 6901, such as `/event/id`) points. Needs the feature `json`.
    ///
    /// A string, number or boolean is the key itself, numbers in their canonical form (RFC 8785), or as they were sent if
    /// they are beyond 2^53; the key of an object or array is the digest of its canonical form. If the body is not JSON,
    /// or has nothing, `null` or an empty string at that place, there is no key. The `Content-Type` does not matter.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/send.rs"));
    /// # #[cfg(feature = "memory")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use axum::{Router, routing::post};
    /// use tower_idempotency::{IdempotencyLayer, KeySource, MemoryBackend, Outcome};
    ///
    /// let layer = IdempotencyLayer::new(MemoryBackend::new()).key(KeySource::json_pointer("/event/id"));
    /// let app = Router::new().route("/payments", post(|| async {})).layer(layer);
    ///
    /// // `send` posts a body with headers, and returns the `Outcome`.
    /// for outcome in [Outcome::Executed, Outcome::Replayed] {
    ///     assert_eq!(send(&app, &[], r#"{"event": {"id": "evt_1"}}"#).await, Some(outcome));
    /// }
    /// assert_eq!(send(&app, &[], r#"{"event": {"id": null}}"#).await, None);
    /// # }
    /// # #[cfg(not(feature = "memory"))] fn main() {}
    /// ```
    ///
    /// # Panics
    ///
    /// When `pointer` is not a JSON pointer.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    #[track_caller]
    pub fn json_pointer(pointer: &str) -> Self {
        Self::json_pointers([pointer])
    }

    /// The values in the JSON body to which all of `pointers` (RFC 6901) point, together; a body that lacks one of them
    /// has no key. Needs the feature `json`.
    ///
    /// The key is the digest of their canonical form (RFC 8785), in the order of `pointers`.
    ///
    /// # Panics
    ///
    /// When one of `pointers` is not a JSON pointer, or there is none.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    #[track_caller]
    pub fn json_pointers<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Self {
        let pointers: Vec<_> = pointers.into_iter().map(str::to_owned).collect();
        assert!(!pointers.is_empty(), "no JSON pointer: every request would have the same key");
        for pointer in &pointers {
            assert!(crate::json::is_pointer(pointer), "{pointer:?} is not a JSON pointer, such as \"/event/id\"");
        }
        Self::only(Source::JsonPointers(pointers))
    }

    /// The key that `choice` returns, given head and body. The body is read first. `None`: no key.
    ///
    /// ```
    /// use tower_idempotency::KeySource;
    ///
    /// // The account in the path, and the first line of the body.
    /// let source = KeySource::by(|parts, body| {
    ///     let account = parts.uri.path().strip_prefix("/accounts/")?;
    ///     let line = body.split(|&byte| byte == b'\n').next()?;
    ///     Some([account.as_bytes(), b":", line].concat())
    /// });
    /// # drop(source);
    /// ```
    pub fn by<T: AsRef<[u8]>>(choice: impl Fn(&Parts, &[u8]) -> Option<T> + Send + Sync + 'static) -> Self {
        let choice = move |parts: &Parts, body: &[u8]| choice(parts, body).map(|key| key.as_ref().to_vec());
        Self::only(Source::Chosen(Closure(Arc::new(choice))))
    }

    /// Uses `other` if this source finds nothing. What this source refuses stays refused. A [`BodyHash`] is always
    /// tried last.
    pub fn or(mut self, other: impl Into<Self>) -> Self {
        let other = other.into();
        self.first_of.extend(other.first_of);
        self.body_hash = other.body_hash.or(self.body_hash);
        self
    }

    fn only(source: Source) -> Self {
        Self { first_of: vec![source], body_hash: None }
    }

    /// Looks for the key of a request whose body is `body`, if it has been read.
    pub(crate) fn find(&self, parts: &Parts, body: Option<&[u8]>) -> Result<Found, Rejection> {
        for source in &self.first_of {
            let found = match (source, body) {
                (Source::Twins, _) => KeyText::of(&parts.headers)?,
                (Source::Header(name), _) => KeyText::in_header(&parts.headers, name)?,
                (_, None) => return Ok(Found::Unread),
                #[cfg(feature = "json")]
                (Source::JsonPointers(pointers), Some(body)) => crate::json::key(body, pointers),
                (Source::Chosen(choice), Some(body)) => choice(parts, body).and_then(|key| KeyText::of_value(&key)),
            };
            if let Some(text) = found {
                return Ok(Found::Key(text));
            }
        }
        Ok(Found::Nothing)
    }
}
