//! [`Key`]: the name under which a backend keeps a claim or a record.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

/// The name under which a backend keeps one claim or one record: 32 bytes.
///
/// A key is the SHA-256 digest of a namespace, an optional scope and the text that the client sent. So every backend
/// handles names of one size, no byte chosen by a client reaches a store, and two different triples never share a name.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use tower_idempotency::{Backend, Key, MemoryBackend};
///
/// // An operator's undo: the next request with this key in the namespace "orders" runs.
/// let backend = MemoryBackend::new();
/// let removed = backend.remove(&Key::new("orders", "8e03978e-40d5-43e8-bc93-6894a57f9324")).await.unwrap();
/// assert!(!removed); // nothing was there
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
///
/// `Display` prints all 64 hexadecimal digits; `Debug` prints eight, which is what belongs in a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; Self::LEN]);

impl Key {
    /// Length of a key in bytes.
    pub const LEN: usize = 32;

    /// The key for `text` in `namespace`, as a layer with that namespace and no scope derives it.
    ///
    /// Use it to inspect or remove what is stored for a client's key. Keys of a layer with a
    /// [`scope`](crate::IdempotencyLayer::scope) are [different](Self::scoped), and so are those of requests that are
    /// identified by a [`BodyHash`](crate::BodyHash).
    #[must_use]
    pub fn new(namespace: &str, text: impl AsRef<[u8]>) -> Self {
        Self::of_parts(namespace, 0, &[], text.as_ref())
    }

    /// The key for `text` in `namespace`, as a layer with that namespace derives it for the principal `scope`.
    #[must_use]
    pub fn scoped(namespace: &str, scope: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> Self {
        Self::of_parts(namespace, 1, scope.as_ref(), text.as_ref())
    }

    /// The key of a request that is known by its body: no text that a client sends has the same.
    pub(crate) fn hashed(namespace: &str, scope: Option<&[u8]>, text: &[u8]) -> Self {
        Self::of_parts(namespace, 2 + u8::from(scope.is_some()), scope.unwrap_or_default(), text)
    }

    /// All parts but the last carry their length, so that no two of them hash the same bytes.
    fn of_parts(namespace: &str, kind: u8, scope: &[u8], text: &[u8]) -> Self {
        let mut digest = Sha256::new();
        update_prefixed(&mut digest, namespace.as_bytes());
        digest.update([kind]);
        update_prefixed(&mut digest, scope);
        digest.update(text);
        Self(digest.finalize().into())
    }

    /// A UUID of version 8, made of SHA-256 as in RFC 9562, appendix B.2.
    pub(crate) fn derive<P: AsRef<[u8]>>(&self, parts: impl IntoIterator<Item = P>) -> String {
        let mut digest = Sha256::new();
        digest.update(self.0);
        parts.into_iter().for_each(|part| update_prefixed(&mut digest, part.as_ref()));
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&digest.finalize()[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80; // version 8
        uuid[8] = uuid[8] & 0x3f | 0x80; // the variant of RFC 9562
        let hex = format!("{:032x}", u128::from_be_bytes(uuid));
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// A key from bytes that [`as_bytes`](Self::as_bytes) returned.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of this key: what a backend stores.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(")?;
        write_hex(&self.0[..4], f)?;
        f.write_str("..)")
    }
}

/// Feeds `part` behind its length (big endian, 8 bytes), so that neighbouring parts cannot run into each other.
pub(crate) fn update_prefixed(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_be_bytes());
    digest.update(part);
}

pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    hex_digits(bytes).try_for_each(|digit| f.write_char(digit))
}

pub(crate) fn hex_digits(bytes: &[u8]) -> impl Iterator<Item = char> {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(|digit| DIGITS[usize::from(digit)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_triples_never_share_a_key() {
        let keys = [
            Key::new("", "ab"),
            Key::new("a", "b"),
            Key::new("ab", ""),
            Key::scoped("", "", "ab"),
            Key::scoped("", "a", "b"),
            Key::scoped("a", "b", ""),
            Key::hashed("", None, b"ab"),
            Key::hashed("", Some(b"a"), b"b"),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    /// Keys are persisted by remote backends: a release that derives them differently forgets every record.
    #[test]
    fn derivation_is_pinned() {
        assert_eq!(
            Key::new("orders", "8e03978e-40d5-43e8-bc93-6894a57f9324").to_string(),
            "9f3e59eda139af218da33ca6b8d5da628ef7283502bb29533894b404fd3f9703"
        );
    }

    #[test]
    fn derivation_with_a_scope_is_pinned() {
        assert_eq!(
            Key::scoped("orders", "acme", "8e03978e").to_string(),
            "716a8fd131981d6207c25b778a97cca13037450edcf9c138324984a4d73066f3"
        );
    }

    /// Other services keep derived keys: a release that derives them differently repeats calls.
    #[test]
    fn derived_keys_are_pinned() {
        let key = Key::new("orders", "8e03978e-40d5-43e8-bc93-6894a57f9324");
        assert_eq!(key.derive(["stripe", "charge"]), "7d96929e-73f7-8b3e-a338-9eb48cdbeaea");
    }

    #[test]
    fn different_parts_never_share_a_derived_key() {
        let (key, other) = (Key::new("", "k-1"), Key::new("", "k-2"));
        let derived = [
            key.derive([""; 0]),
            key.derive([""]),
            key.derive(["ab"]),
            key.derive(["a", "b"]),
            key.derive(["", "ab"]),
            other.derive(["ab"]),
        ];
        let distinct: std::collections::HashSet<_> = derived.iter().collect();
        assert_eq!(distinct.len(), derived.len(), "{derived:?}");
    }

    #[test]
    fn debug_prints_a_short_hash() {
        let key = Key::from_bytes([0xab; 32]);
        assert_eq!(format!("{key:?}"), "Key(abababab..)");
        assert_eq!(key.to_string(), "ab".repeat(32));
    }
}
