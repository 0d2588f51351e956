//! The digests of keys and fingerprints, worked out anew from their description.

use sha2::{Digest, Sha256};

/// `part` behind its length, as 8 bytes, big endian.
pub(super) fn prefixed(part: &[u8]) -> Vec<u8> {
    [&(part.len() as u64).to_be_bytes()[..], part].concat()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The text that stands for a key which is no text.
pub(super) fn text_of(digest: [u8; 32]) -> String {
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// What is hashed for a key. `kind`: 0 without a scope, 1 with one; 2 and 3 the same for what is known by its body.
pub(super) fn key_input(namespace: &str, kind: u8, scope: &[u8], text: &[u8]) -> Vec<u8> {
    [&prefixed(namespace.as_bytes()), &[kind][..], &prefixed(scope), text].concat()
}
