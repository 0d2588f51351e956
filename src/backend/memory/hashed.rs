//! [`Hashed`]: a key on its way to its slot.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::Key;

/// A key with its hash. One half chooses the shard, the other one the bucket in it.
///
/// The hash is seeded at random, although a key is a digest: clients choose the text behind it, and could try texts
/// until thousands of keys fall into one bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed<'a> {
    pub(super) key: &'a Key,
    pub(super) shard: u32,
    pub(super) hash: u32,
}

impl<'a> Hashed<'a> {
    pub(super) fn new(hasher: &DefaultHashBuilder, key: &'a Key) -> Self {
        let hash = hasher.hash_one(key);
        Self { key, shard: (hash >> 32) as u32, hash: (hash & 0xffff_ffff) as u32 }
    }
}
