//! What tests over real servers have in common: how servers are started and ended, an application over them, in this
//! process and in others.
#![allow(dead_code, unused_macros, reason = "every test target uses a part of this module")]

mod application;
pub(crate) mod nodes;
#[macro_use]
pub(crate) mod processes;
pub(crate) mod runs;
mod supervisor;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    application::{Application, LONG, order},
    nodes::{Terms, serve_as_node},
    supervisor::{Supervisor, free_port, fresh_directory},
};

/// Blocks until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
