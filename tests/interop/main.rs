//! Real clients against real servers of ours. `tests/run --interop` installs the clients and runs this.

mod browser;
mod client;
mod demo;
#[allow(dead_code)]
#[path = "../servers/example.rs"]
mod example;
mod grpc;
mod sdks;
mod server;
mod tools;
