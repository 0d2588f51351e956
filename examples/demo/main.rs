//! A page with a Pay button that can be clicked twice, twenty times, without waiting for the answer, and while a node is
//! killed; it shows what ran, what was replayed and what was refused, and what happens without the layer.
//!
//! ```console
//! cargo run --example demo
//! ```
//!
//! This process serves the page and hands each payment to one of two nodes, by turns. The nodes are processes of their
//! own, which this one starts, kills where the page wants it, and starts again. They share one file of `SQLite` with
//! claims and records; what is charged stands in another.

mod bank;
mod journal;
mod node;
mod report;
mod shop;
#[allow(unreachable_pub, reason = "as the guide shows it, where it is a library")]
#[path = "../custom_backend/sqlite.rs"]
mod sqlite;
mod supervisor;

use std::{env, error::Error, fs, path::Path, process::id};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => show(0).await,
        ["--port", port] => {
            show(port.parse().map_err(|_| format!("--port takes a number, which {port} is not"))?).await
        }
        ["node", name, folder] => node::serve(name, Path::new(folder)).await,
        _ => Err("usage: demo [--port N]".into()),
    }
}

/// Until Ctrl-C.
async fn show(port: u16) -> Result<()> {
    let folder = env::temp_dir().join(format!("tower_idempotency_demo_{}", id()));
    fs::create_dir_all(&folder)?;
    let stop = async { Ok(tokio::signal::ctrl_c().await?) };
    let ended = tokio::select! {
        ended = shop::open(port, &folder) => ended,
        ended = stop => ended,
    };
    fs::remove_dir_all(folder)?;
    ended
}
