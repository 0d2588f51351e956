//! The consumer: receives, deduplicates, handles, acknowledges.

use std::{
    error::Error,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::abort,
    time::Duration,
};

use rusqlite::Connection;
use tokio::{task::spawn_blocking, time::sleep};
use tower_idempotency::{Backend, Deduplicator, Message, Processed};

use crate::{
    queue::{Delivery, Queue},
    sqlite::SqliteBackend,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Receives until the queue is empty, or until it dies, where `death` says.
#[tokio::main]
pub(crate) async fn consume(folder: &Path, death: &str) -> Result<()> {
    let (queue, office) = (Queue::open(folder)?, Office::open(folder, death)?);
    let deduplicator = Deduplicator::new(SqliteBackend::open(&office.file)?)
        .namespace("billing-consumer")
        .retention(Duration::from_secs(7 * 24 * 60 * 60))
        .lease(Duration::from_secs(1)); // short, so that a restart goes quickly

    while !queue.is_empty()? {
        match queue.receive()? {
            None => sleep(Duration::from_millis(50)).await,
            Some(delivery) if process(&deduplicator, &office, &delivery).await => {
                office.die_if(&format!("{} before its acknowledgement", delivery.id));
                queue.acknowledge(&delivery)?;
            }
            Some(_) => {} // is delivered again
        }
    }
    Ok(())
}

/// Whether the message can be acknowledged.
async fn process<B: Backend>(
    deduplicator: &Deduplicator<B>,
    office: &Office,
    Delivery { id, body, .. }: &Delivery,
) -> bool {
    let (office, amount) = (office.clone(), body.clone());
    let answer = deduplicator.run_with(Message::new(id).payload(body), move |run| async move {
        spawn_blocking(move || office.handle(run.key(), &amount)).await?
    });
    match answer.await {
        Ok(Processed::Replayed(_)) => println!("  {id} delivered: done before"),
        Ok(_) => println!("  {id} delivered: executed"),
        Err(error) if error.is_retryable() => {
            println!("  {id} delivered: {error}, left in the queue");
            return false;
        }
        // Here it would go to a queue of its own.
        Err(error) => println!("  {id} delivered: {error}, put aside"),
    }
    true
}

/// What the messages are for.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) file: PathBuf,
    pub(crate) emails: PathBuf,
    /// Where the process dies.
    death: String,
}

impl Office {
    pub(crate) fn open(folder: &Path, death: &str) -> Result<Self> {
        let (file, emails) = (folder.join("queue_consumer.db"), folder.join("emails.txt"));
        let office = Self { file, emails, death: death.to_owned() };
        let table = "CREATE TABLE IF NOT EXISTS ledger (message TEXT NOT NULL UNIQUE, amount INTEGER NOT NULL)";
        office.connect()?.execute_batch(table)?;
        Ok(office)
    }

    fn handle(&self, message: &str, amount: &str) -> Result<String> {
        self.book(message, amount)?;
        self.send_email(message)?;
        self.die_if(&format!("{message} before its record"));
        Ok(format!("{amount} booked"))
    }

    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(&self.file)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }

    /// A transactional effect. What the message changes stands in one transaction with its key, which is UNIQUE: a
    /// second run changes nothing.
    fn book(&self, message: &str, amount: &str) -> Result<()> {
        let mut connection = self.connect()?;
        let transaction = connection.transaction()?;
        let booking = "INSERT INTO ledger (message, amount) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        transaction.execute(booking, [message, amount])?;
        Ok(transaction.commit()?)
    }

    /// An effect that no transaction holds: a second run has it again.
    fn send_email(&self, message: &str) -> Result<()> {
        let mut outbox = OpenOptions::new().create(true).append(true).open(&self.emails)?;
        Ok(writeln!(outbox, "{message}")?)
    }

    /// As a power cut would: nothing is cleaned up, nothing is given back.
    fn die_if(&self, here: &str) {
        if self.death == here {
            println!("  {here}: the process aborts");
            abort()
        }
    }
}
