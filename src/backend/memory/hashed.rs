//! [`Hashed`]: a key on its way to its slot.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;

use crate::Key;

/// A key with its hash.
///
/// The hash is seeded at random, although a key is a digest: clients choose the text behind it, and could try texts
/// until thousands of keys fall into one bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed<'a> {
    pub(super) key: &'a Key,
    pub(super) hash: u64,
}

impl<'a> Hashed<'a> {
    pub(super) fn new(hasher: &DefaultHashBuilder, key: &'a Key) -> Self {
        Self { key, hash: hash(hasher, key) }
    }

    /// Bits to choose a shard by.
    pub(super) const fn shard(self) -> usize {
        (self.hash >> 32) as usize
    }
}

/// As two numbers: as bytes of any length a key would cost four times as much.
pub(super) fn hash(hasher: &DefaultHashBuilder, key: &Key) -> u64 {
    let mut hasher = hasher.build_hasher();
    for half in key.as_bytes().as_chunks().0 {
        hasher.write_u128(u128::from_ne_bytes(*half));
    }
    hasher.finish()
}
