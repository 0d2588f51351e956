//! Where a request and a reply end in the three protocols that are spoken here, and which step a request is of.

use std::{future::pending, io, sync::LazyLock};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::tcp::OwnedReadHalf,
};

use crate::{
    postgres_messages::{Prepared, read_rest, read_until},
    resp::{Command, read_reply},
};

/// A step of a run that an application asks its store for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Claim,
    Renew,
    Complete,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Http,
    Redis,
    Postgres,
}

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) step: Option<Step>,
}

type Reader = BufReader<OwnedReadHalf>;

/// The side of a connection that sends requests.
pub(crate) struct Requests {
    dialect: Dialect,
    from: Reader,
    /// Those of a connection to PostgreSQL.
    prepared: Prepared,
    begun: bool,
}

impl Requests {
    pub(crate) fn new(dialect: Dialect, from: OwnedReadHalf) -> Self {
        Self { dialect, from: BufReader::new(from), prepared: Prepared::default(), begun: false }
    }

    /// The next one. `None`: the sender has left.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Request>> {
        match self.dialect {
            Dialect::Http => {
                read_http(&mut self.from).await.map(|bytes| bytes.map(|bytes| Request { bytes, step: None }))
            }
            Dialect::Redis => {
                let command = Command::read(&mut self.from).await?;
                Ok(command.map(|command| Request { step: step_of_command(&command), bytes: command.bytes }))
            }
            Dialect::Postgres => self.next_statement().await.map(Some),
        }
    }

    /// Waits until the sender has left.
    pub(crate) async fn end(&mut self) {
        if self.from.fill_buf().await.is_ok_and(|bytes| !bytes.is_empty()) {
            pending::<()>().await; // what it has sent already is for later
        }
    }

    async fn next_statement(&mut self) -> io::Result<Request> {
        // The first message has no type.
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(Request { bytes: read_rest(&mut self.from, Vec::new()).await?, step: None });
        }
        let messages = read_until(&mut self.from, b"SQX").await?;
        let step = self.prepared.statement(&messages).and_then(|statement| step_of_statement(&statement));
        Ok(Request { step, bytes: messages.bytes })
    }
}

/// The next reply, as it came.
pub(crate) async fn reply(dialect: Dialect, from: &mut Reader) -> io::Result<Vec<u8>> {
    match dialect {
        Dialect::Http => read_http(from).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
        Dialect::Redis => read_reply(from).await,
        Dialect::Postgres => Ok(read_until(from, b"Z").await?.bytes),
    }
}

/// A message of HTTP/1 whose length its head says. `None`: there is no more.
async fn read_http(from: &mut Reader) -> io::Result<Option<Vec<u8>>> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    loop {
        let start = bytes.len();
        if from.read_until(b'\n', &mut bytes).await? == 0 {
            return if start == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let line = String::from_utf8_lossy(&bytes[start..]).to_ascii_lowercase();
        if let Some(said) = line.strip_prefix("content-length:") {
            length = said.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    from.read_exact(&mut bytes[start..]).await?;
    Ok(Some(bytes))
}

fn step_of_command(command: &Command) -> Option<Step> {
    static SCRIPTS: LazyLock<[(String, Step); 3]> = LazyLock::new(|| {
        let hash = |code| redis::Script::new(code).get_hash().to_owned();
        [
            (hash(include_str!("../../src/backend/redis/renew.lua")), Step::Renew),
            (hash(include_str!("../../src/backend/redis/complete.lua")), Step::Complete),
            (hash(include_str!("../../src/backend/redis/release.lua")), Step::Release),
        ]
    });
    if command.is_claim() {
        return Some(Step::Claim);
    }
    SCRIPTS.iter().find(|(hash, _)| command.has(hash)).map(|(_, step)| *step)
}

fn step_of_statement(statement: &str) -> Option<Step> {
    let begins = [
        ("WITH live", Step::Claim),
        ("UPDATE", Step::Renew),
        ("WITH changed AS (INSERT", Step::Complete),
        ("WITH changed AS (DELETE", Step::Release),
    ];
    begins.iter().find(|(begin, _)| statement.starts_with(begin)).map(|(_, step)| *step)
}
