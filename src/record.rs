//! [`Record`]: what a completed run leaves behind.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, response::Parts};

use crate::{
    Fingerprint,
    codec::{self, Content, DecodeError},
};

/// What a completed run leaves behind: the fingerprint of its request, and its outcome.
///
/// A record is kept as the bytes that a store persists, so that storing and sharing one costs no conversion. Backends
/// move the bytes and need not look inside; `src/codec.rs` describes their layout, whose version is the first byte.
/// Clones share the bytes.
///
/// ```
/// use tower_idempotency::{Fingerprint, Record};
///
/// let record = Record::value(&Fingerprint::of("message 1"), b"done");
/// let stored = record.to_bytes();
///
/// let loaded = Record::from_bytes(stored.clone()).unwrap();
/// assert_eq!(loaded, record);
/// assert_eq!(loaded.fingerprint(), Fingerprint::of("message 1"));
/// assert_eq!(loaded.as_value().unwrap(), "done");
/// assert!(Record::from_bytes(stored.slice(..10)).is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Bytes);

impl Record {
    /// A record of `value`: for code that is not HTTP.
    #[must_use]
    pub fn value(fingerprint: &Fingerprint, value: &[u8]) -> Self {
        Self(codec::encode_value(fingerprint, value))
    }

    /// A record of 50 bytes that says "completed", of a run whose response was not kept.
    #[must_use]
    pub fn tombstone(fingerprint: &Fingerprint) -> Self {
        Self(codec::encode_tombstone(fingerprint))
    }

    /// A record that says "perhaps executed", of a run that must not be repeated.
    pub(crate) fn outcome_unknown(fingerprint: &Fingerprint) -> Self {
        Self(codec::encode_outcome_unknown(fingerprint))
    }

    /// A record of a response. `None` when it has more header lines than the layout can count.
    pub(crate) fn response(
        fingerprint: &Fingerprint,
        head: &Parts,
        keeps: impl Fn(&HeaderName) -> bool,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) -> Option<Self> {
        codec::encode_response(fingerprint, head.status, &head.headers, keeps, body, trailers).map(Self)
    }

    /// A record from the bytes that [`to_bytes`](Self::to_bytes) returned, perhaps by another version of this crate.
    /// The bytes are kept, not copied.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are not a whole record of a known layout version.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        codec::decode(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes of this record: what a backend persists. No copy is made.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// A copy in memory of its own.
    #[cfg(feature = "memory")]
    pub(crate) fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Size of this record in bytes: at least 50.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The fingerprint of the request that was executed.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        codec::fingerprint(&self.0)
    }

    /// The value of a record made by [`value`](Self::value), sharing this record's memory. `None` for any other record.
    #[must_use]
    pub fn as_value(&self) -> Option<Bytes> {
        match self.content() {
            Ok(Content::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// The outcome, with a body that shares this record's memory.
    pub(crate) fn content(&self) -> Result<Content, DecodeError> {
        codec::decode(&self.0)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes may hold a response; they do not belong in a log.
        f.debug_struct("Record").field("fingerprint", &self.fingerprint()).field("size", &self.size()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_from_its_bytes() {
        let record = Record::value(&Fingerprint::of("message 1"), b"done");
        let loaded = Record::from_bytes(record.to_bytes()).unwrap();
        assert_eq!((loaded.as_value(), loaded.size()), (Some(Bytes::from_static(b"done")), 54));
        assert_eq!(loaded, record);
        assert_eq!(Record::tombstone(&Fingerprint::of("message 1")).as_value(), None);
    }

    #[test]
    fn debug_prints_nothing_of_the_outcome() {
        let record = Record::value(&Fingerprint::from_bytes([0xab; Fingerprint::LEN]), b"secret");
        assert_eq!(format!("{record:?}"), "Record { fingerprint: Fingerprint(abababab..), size: 56 }");
    }
}
