//! A queue consumer that gets messages twice and dies in the middle of them: what happens once, and what does not.
//!
//! ```console
//! cargo run --example queue_consumer
//! ```
//!
//! Each message is booked in a ledger, in a transaction that knows its key, and announced by an e-mail, which nothing
//! can take back or recognise. The consumer is a process of its own, which this one starts again when it has died.
//! Queue, ledger and idempotency keys are tables of one file of `SQLite`. With a folder as its argument, the example
//! leaves that file and the e-mails there.

mod consumer;
mod queue;
#[allow(unreachable_pub, reason = "the guide shows a library")]
#[path = "../custom_backend/sqlite.rs"]
mod sqlite;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    path::Path,
    process::{Command, id},
};

use rusqlite::Connection;

use crate::{consumer::Office, queue::Queue};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let folder = env::temp_dir().join(format!("queue_consumer_{}", id()));
            fs::create_dir_all(&folder)?;
            show(&folder)?;
            Ok(fs::remove_dir_all(folder)?)
        }
        ["consume", folder, death] => consumer::consume(Path::new(folder), death),
        [folder] => show(Path::new(folder)),
        _ => Err("usage: queue_consumer [folder]".into()),
    }
}

/// Fills the queue, starts the consumer until it has emptied the queue, and counts.
fn show(folder: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let queue = Queue::open(folder)?;
    for (id, body) in [("m-1", "1200"), ("m-2", "80"), ("m-2", "80"), ("m-3", "75"), ("m-4", "9900")] {
        queue.send(id, body)?;
        println!("sent {id}");
    }
    for death in ["m-3 before its record", "m-4 before its acknowledgement", "never"] {
        println!("the consumer starts");
        let ended = Command::new(env::current_exe()?).arg("consume").arg(folder).arg(death).status()?;
        println!("the consumer has {}", if ended.success() { "emptied the queue" } else { "died" });
    }
    let office = Office::open(folder, "never")?;
    println!("ledger entries: {}", counted(&ledger(&office.file)?));
    println!("e-mails: {}", counted(&emails(&office.emails)?));
    println!(
        "# The consumer died after the e-mail about m-3 and before its record, so m-3 ran again. That run found the"
    );
    println!("# key in the ledger. Nothing could tell it of the e-mail, so there are two.");
    Ok(())
}

/// The message of each entry.
fn ledger(file: &Path) -> rusqlite::Result<Vec<String>> {
    let connection = Connection::open(file)?;
    let mut entries = connection.prepare("SELECT message FROM ledger")?;
    entries.query_map([], |row| row.get(0))?.collect()
}

/// The message of each e-mail.
fn emails(file: &Path) -> std::io::Result<Vec<String>> {
    Ok(fs::read_to_string(file)?.lines().map(str::to_owned).collect())
}

fn counted(messages: &[String]) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    messages.iter().for_each(|message| *counts.entry(message).or_default() += 1);
    counts.iter().map(|(message, count)| format!("{message} {count}")).collect::<Vec<_>>().join(", ")
}
