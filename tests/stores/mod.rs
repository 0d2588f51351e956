//! What every store that is a server of its own has to stand, written once: the server is killed, its replies are lost, it
//! tells waiting duplicates of other nodes what they wait for. Each test target has a `support::store`, with what is to be
//! known of its store for that, and the cases that only its store has in modules of the same names.

#[cfg(feature = "memory")]
mod cached;
pub(crate) mod crashes;
pub(crate) mod lost_replies;
pub(crate) mod wakes;
