//! As much of PostgreSQL's wire protocol as a proxy has to know: where a message ends, and which statement it executes.

use std::{collections::HashMap, io, mem};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Messages of one side, with the place at which each begins.
#[derive(Default)]
pub(crate) struct Messages {
    pub(crate) bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Messages {
    /// What follows the type and the length of each message of type `kind`, cut at zero bytes.
    fn of(&self, kind: u8) -> impl Iterator<Item = impl Iterator<Item = String>> {
        let text = |start: usize| {
            let parts = self.bytes[start + 5..].split(|&byte| byte == 0);
            parts.map(|part| String::from_utf8_lossy(part).into_owned())
        };
        self.starts.iter().copied().filter(move |&start| self.bytes[start] == kind).map(text)
    }

    /// Reads the next message behind the others, and returns its type.
    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
        let kind = from.read_u8().await?;
        self.starts.push(self.bytes.len());
        self.bytes.push(kind);
        self.bytes = read_rest(from, mem::take(&mut self.bytes)).await?;
        Ok(kind)
    }
}

/// The statements that a connection has prepared, by their names.
#[derive(Default)]
pub(crate) struct Prepared(HashMap<String, String>);

impl Prepared {
    /// The text of the statement that `request` executes, be it one that is not prepared, as BEGIN and COMMIT are not.
    pub(crate) fn statement(&mut self, request: &Messages) -> Option<String> {
        let prepared = request.of(b'P').filter_map(|mut parts| Some((parts.next()?, parts.next()?)));
        self.0.extend(prepared);
        let executed = request.of(b'B').next().and_then(|mut parts| parts.nth(1));
        let statement = executed.and_then(|name| self.0.get(&name).cloned());
        statement.or_else(|| request.of(b'Q').next()?.next())
    }
}

/// Reads one message, of which the first byte is its type.
#[allow(dead_code, reason = "tests/ledger does")]
pub(crate) async fn read_one(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Messages> {
    let mut messages = Messages::default();
    messages.read(from).await.map(|_| messages)
}

/// Reads messages up to the first that has one of the types `last`.
pub(crate) async fn read_until(from: &mut (impl AsyncRead + Unpin), last: &[u8]) -> io::Result<Messages> {
    let mut messages = Messages::default();
    while !last.contains(&messages.read(from).await?) {}
    Ok(messages)
}

/// Reads a length, and so many bytes with it.
pub(crate) async fn read_rest(from: &mut (impl AsyncRead + Unpin), mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    bytes.extend(length.to_be_bytes());
    let start = bytes.len();
    bytes.resize(start + length as usize - 4, 0);
    from.read_exact(&mut bytes[start..]).await?;
    Ok(bytes)
}
