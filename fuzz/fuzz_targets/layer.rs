//! Whatever clients and handlers do, the layer keeps its promises.
//!
//! ```console
//! cargo fuzz run -s none layer -- -max_total_time=60
//! ```
#![no_main]

#[path = "../../tests/script/interpreter.rs"]
mod interpreter;

libfuzzer_sys::fuzz_target!(|script: &[u8]| interpreter::run(script));
