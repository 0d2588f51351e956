//! A small correct backend, and wrong variants of it to prove the suite with.
#![allow(dead_code, unreachable_pub, reason = "every test target uses a part of this file")]

pub mod reference;
