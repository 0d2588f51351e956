//! `CachedBackend`: the behaviour suite and the conformance suite over it, and what its memory may answer, and when.
#![cfg(all(feature = "memory", feature = "test-util"))]

mod age;
#[path = "../behaviour/mod.rs"]
#[macro_use]
mod behaviour;
mod bounds;
#[path = "../support/distant.rs"]
mod distant;
mod laws;
mod layer;
mod node;
mod records;
#[path = "../support/reference.rs"]
#[allow(dead_code, reason = "the wrong variants of it are not for these tests")]
#[allow(unreachable_pub, reason = "other tests use it as a module of theirs")]
mod reference;
mod removals;

use std::time::Duration;

use tower_idempotency::{BoxBackend, CachedBackend, MemoryBackend};

use self::distant::Distant;

fn cached() -> BoxBackend {
    let shared = Distant::new(MemoryBackend::new(), Duration::from_micros(300));
    BoxBackend::new(CachedBackend::new(MemoryBackend::new(), shared))
}

suite!(crate::cached());
