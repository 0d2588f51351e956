//! What the fuzz targets check: a function of bytes each, which panics when something is not as it should be.
//!
//! Everything goes through the public API: what a layer asks of its backend for a request says which key and fingerprint
//! it has made, and a `RedisBackend` says what it reads and writes to the connection that it is given. `fuzz/` hands these
//! functions to libFuzzer, `tests/corpus/main.rs` runs them as a test.
#![allow(dead_code, reason = "each fuzz target uses one of them")]

mod canonical_json;
mod desk;
mod digest;
mod document;
mod fingerprint;
mod input;
mod key;
#[path = "../../script/interpreter.rs"]
mod layer;
mod record;
mod redis_value;
mod rfc8785;

type Target = fn(&[u8]);

/// Every target, by its name.
const ALL: [(&str, Target); 6] = [
    ("record", record::run),
    ("redis_value", redis_value::run),
    ("key", key::run),
    ("fingerprint", fingerprint::run),
    ("canonical_json", canonical_json::run),
    ("layer", layer::run),
];

/// Runs the target `name` over `input`.
pub(crate) fn run(name: &str, input: &[u8]) {
    let (_, target) = ALL.iter().find(|(other, _)| *other == name).expect("there is such a target");
    target(input);
}
