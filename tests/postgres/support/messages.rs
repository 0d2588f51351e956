//! As much of PostgreSQL's wire protocol as a proxy has to know: where a message ends, and which statement it executes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Messages of one side, with the place at which each begins.
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

    /// The names and texts of the statements that are prepared.
    pub(crate) fn prepared(&self) -> Vec<(String, String)> {
        self.of(b'P').filter_map(|mut parts| Some((parts.next()?, parts.next()?))).collect()
    }

    /// The text of a query that is not prepared, as BEGIN and COMMIT are not.
    pub(crate) fn simple(&self) -> Option<String> {
        self.of(b'Q').next()?.next()
    }

    /// The name of the statement that is executed.
    pub(crate) fn executed(&self) -> Option<String> {
        self.of(b'B').next()?.nth(1)
    }
}

/// Reads messages up to the first that has one of the types `last`.
pub(crate) async fn read_until(from: &mut (impl AsyncRead + Unpin), last: &[u8]) -> io::Result<Messages> {
    let mut messages = Messages { bytes: Vec::new(), starts: Vec::new() };
    loop {
        let start = messages.bytes.len();
        messages.starts.push(start);
        messages.bytes.push(from.read_u8().await?);
        messages.bytes = read_rest(from, messages.bytes).await?;
        if last.contains(&messages.bytes[start]) {
            return Ok(messages);
        }
    }
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
