//! [`Order`]: the completed slots of a shard, oldest first.

use super::{shard::Slot, slab::Slab};

/// A doubly linked list through the completed slots of a slab, in order of completion. No claim is ever on it.
#[derive(Debug, Default)]
pub(super) struct Order {
    oldest: Option<u32>,
    newest: Option<u32>,
}

/// The neighbours of a slot on the list. [`END`] at either end: an `Option<u32>` would take twice the room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    older: u32,
    newer: u32,
}

const END: u32 = u32::MAX;

impl Links {
    pub(super) const NONE: Self = Self { older: END, newer: END };

    #[cfg(all(test, not(idempotency_loom)))]
    pub(super) fn newer(self) -> Option<u32> {
        some(self.newer)
    }
}

impl Order {
    pub(super) const fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    pub(super) fn push_newest(&mut self, slots: &mut Slab<Slot>, at: u32) {
        match self.newest {
            Some(newest) => slots[newest].links.newer = at,
            None => self.oldest = Some(at),
        }
        slots[at].links = Links { older: self.newest.unwrap_or(END), newer: END };
        self.newest = Some(at);
    }

    /// Takes a slot that had these `links` off the list.
    pub(super) fn unlink(&mut self, slots: &mut Slab<Slot>, Links { older, newer }: Links) {
        match older {
            END => self.oldest = some(newer),
            older => slots[older].links.newer = newer,
        }
        match newer {
            END => self.newest = some(older),
            newer => slots[newer].links.older = older,
        }
    }
}

fn some(link: u32) -> Option<u32> {
    (link != END).then_some(link)
}
