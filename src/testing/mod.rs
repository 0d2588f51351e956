//! For tests: the conformance suite for backends, a backend with faults, and an inner service under control.
//!
//! Needs the feature `test-util`, which belongs into `[dev-dependencies]`.
//!
//! * [`conformance`](fn@conformance) checks that a [`Backend`](crate::Backend) keeps the laws.
//! * [`FaultyBackend`] loses, delays, holds back and fails the commands that a test names.
//! * [`InnerService`] is a handler that a test watches and holds.

mod conformance;
mod faults;
mod service;

pub use self::{
    conformance::conformance,
    faults::{Command, Fault, FaultyBackend, Held, Odds, Script, Sent},
    service::{Counts, InnerError, InnerService, Probe, Reaction},
};
