//! The behaviour suite over a backend that is not in this process, in front of which duplicates share their claims.
#![cfg(feature = "memory")]

#[macro_use]
mod behaviour;
#[path = "support/distant.rs"]
mod distant;

use std::time::Duration;

use tower_idempotency::{BoxBackend, MemoryBackend};

use self::distant::Distant;

fn distant() -> BoxBackend {
    BoxBackend::new(Distant::new(MemoryBackend::new(), Duration::from_micros(300)))
}

suite!(crate::distant());
