//! What an attacker would try, over real sockets.
#![cfg(feature = "memory")]

#[path = "../behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the behaviour suites, which use more of it")]
mod support;
mod wire;
