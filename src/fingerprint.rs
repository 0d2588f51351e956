//! [`Fingerprint`]: what a request was, so that a key used for another one is noticed.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderValue, header, request::Parts};
use sha2::{Digest, Sha256};

use crate::key::{update_prefixed, write_hex};

/// What a request was, and with which credentials it came: 48 bytes.
///
/// They are a SHA-256 digest of the request, of which a [`FingerprintPolicy`](crate::FingerprintPolicy) says what goes
/// into it, and 16 bytes of one of the credentials, zero where there are none or a scope stands for them.
///
/// Backends keep it beside the claim or inside the record and hand it back; they never compare it. `Debug` prints the
/// first eight hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    request: [u8; REQUEST_LEN],
    credentials: [u8; CREDENTIALS_LEN],
}

const REQUEST_LEN: usize = 32;
const CREDENTIALS_LEN: usize = 16;

/// Why two fingerprints differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The requests are not the same.
    Request,
    /// The same request, sent with other credentials.
    Credentials,
}

impl Fingerprint {
    /// Length of a fingerprint in bytes.
    pub const LEN: usize = REQUEST_LEN + CREDENTIALS_LEN;

    /// The fingerprint of a request that is nothing but `bytes`, without credentials.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self { request: Sha256::digest(bytes).into(), credentials: [0; CREDENTIALS_LEN] }
    }

    pub(crate) fn new(request: [u8; REQUEST_LEN], credentials: [u8; CREDENTIALS_LEN]) -> Self {
        Self { request, credentials }
    }

    /// The same request, known by its key's scope and not by its credentials.
    pub(crate) fn without_credentials(self) -> Self {
        Self { credentials: [0; CREDENTIALS_LEN], ..self }
    }

    /// How `self` differs from `other`. A different request outweighs different credentials.
    pub(crate) fn difference(&self, other: &Self) -> Option<Difference> {
        if self.request != other.request {
            Some(Difference::Request)
        } else if self.credentials != other.credentials {
            Some(Difference::Credentials)
        } else {
            None
        }
    }

    /// A fingerprint from bytes that [`to_bytes`](Self::to_bytes) returned.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let mut request = [0; REQUEST_LEN];
        let mut credentials = [0; CREDENTIALS_LEN];
        request.copy_from_slice(&bytes[..REQUEST_LEN]);
        credentials.copy_from_slice(&bytes[REQUEST_LEN..]);
        Self { request, credentials }
    }

    /// The bytes of this fingerprint: what a backend stores.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..REQUEST_LEN].copy_from_slice(&self.request);
        bytes[REQUEST_LEN..].copy_from_slice(&self.credentials);
        bytes
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        write_hex(&self.request[..4], f)?;
        f.write_str("..)")
    }
}

/// Feeds the method, the authority, and the path with its query, each behind its length.
pub(crate) fn update_target(digest: &mut Sha256, parts: &Parts) {
    update_prefixed(digest, parts.method.as_str().as_bytes());
    update_prefixed(digest, &authority(parts));
    let target = original_uri(parts).path_and_query().map_or("/", |target| target.as_str());
    update_prefixed(digest, target.as_bytes());
}

/// The target as the client sent it. axum's `nest` strips its prefix from the URI and keeps the whole one aside.
fn original_uri(parts: &Parts) -> &http::Uri {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<axum::extract::OriginalUri>() {
        return &original.0;
    }
    &parts.uri
}

/// The authority the request was sent to (RFC 9110, 7.2). A request that names several, in its target and in `Host`
/// lines, should be refused by servers and is not: handlers differ in which one they believe, so all of them count. No
/// authority has a line break.
fn authority(parts: &Parts) -> Cow<'_, [u8]> {
    let target = original_uri(parts).authority().map(|authority| authority.as_str().as_bytes());
    let lines = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let mut named = target.into_iter().chain(lines).map(host_and_port);
    let first = named.next().unwrap_or_default();
    let mut others = named.filter(|other| *other != first).peekable();
    if others.peek().is_none() {
        return first;
    }
    let others: Vec<_> = others.collect();
    [&[first][..], &others].concat().join(&b"\n"[..]).into()
}

/// In lower case and without a default port, so that `Example.com:80` in a `Host` header equals `example.com` in
/// `:authority`. User information is not taken away: no honest client sends it, and a handler may read it.
fn host_and_port(sent: &[u8]) -> Cow<'_, [u8]> {
    let host = sent.strip_suffix(b":80").or_else(|| sent.strip_suffix(b":443")).unwrap_or(sent);
    if host.iter().any(u8::is_ascii_uppercase) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// A digest of every `Authorization` line; zeros when there is none.
pub(crate) fn credentials(headers: &HeaderMap) -> [u8; CREDENTIALS_LEN] {
    let mut credentials = [0; CREDENTIALS_LEN];
    let mut lines = headers.get_all(header::AUTHORIZATION).iter().peekable();
    if lines.peek().is_some() {
        let mut digest = Sha256::new();
        lines.for_each(|line| update_prefixed(&mut digest, line.as_bytes()));
        credentials.copy_from_slice(&digest.finalize()[..CREDENTIALS_LEN]);
    }
    credentials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_a_short_hash() {
        let fingerprint = Fingerprint::from_bytes([0xab; Fingerprint::LEN]);
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint(abababab..)");
    }
}
