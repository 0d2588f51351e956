//! Real clients against real servers of ours. `tests/run --interop` installs the clients and runs this.
//!
//! | client | a key of its own | asks again by itself, with the same key |
//! |---|---|---|
//! | MercadoPago for Python 3.6 | `x-idempotency-key`, another for each call | no, but where no connection was made |
//! | MercadoPago for JavaScript 3.6 | the same | after a lost connection; 409 goes to its caller |
//! | Stripe for Python 16.1 | `Idempotency-Key`, another for each call | after a lost connection and after 409, if told to |
//! | Stripe for JavaScript 22.0 | the same | after a lost connection and after 409 |
//! | gRPC for JavaScript 1.14 | none | after the statuses that its service config names |
//! | curl, with `--retry-all-errors --fail` | none | after a lost connection and after 409 |
//! | the demo's page in Chromium | `Idempotency-Key`, one for each order | after a lost connection, 409, and a dead node |
//! | wrk | none | never: it sends each key often, at once |

mod browser;
mod client;
mod demo;
#[allow(dead_code, reason = "other suites use the rest of it")]
#[path = "../servers/example.rs"]
mod example;
mod grpc;
mod sdks;
mod server;
mod tools;
