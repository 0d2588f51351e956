//! Decoding of records is total, and what decodes comes back byte for byte.
//!
//! ```console
//! cargo fuzz run -s none record -- -max_total_time=30
//! ```
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tower_idempotency::Record;

fuzz_target!(|input: &[u8]| {
    let input = Bytes::copy_from_slice(input);
    if let Ok(record) = Record::from_bytes(input.clone()) {
        assert_eq!(record.to_bytes(), input);
        assert_eq!(record.fingerprint().to_bytes(), input[2..50]);
        if let Some(value) = record.as_value() {
            assert_eq!(Record::value(&record.fingerprint(), &value), record);
        }
    }
});
