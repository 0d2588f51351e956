//! As much of Redis's wire protocol as a proxy has to know: where a command and where a reply ends.

use std::io;

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader},
    net::tcp::OwnedReadHalf,
};

/// A command as its client sent it.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    words: Vec<Vec<u8>>,
    /// All of it, to pass it on.
    pub(super) bytes: Vec<u8>,
}

impl Command {
    /// The next command of a connection. `None`: the client has left.
    pub(super) async fn read(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let Some(count) = read_line(from, &mut bytes).await? else { return Ok(None) };
        let mut words = Vec::new();
        for _ in 0..number(&count)? {
            let length = read_line(from, &mut bytes).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            words.push(read_bulk(from, &mut bytes, number(&length)?).await?);
        }
        Ok(Some(Self { words, bytes }))
    }

    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.words[0]).to_ascii_uppercase()
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|other| other.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Whether this is the claim of a Redis that knows `SET .. NX GET`.
    pub(crate) fn is_claim(&self) -> bool {
        self.name() == "SET" && self.has("NX")
    }

    /// Whether this runs a script: it renews, completes or releases a claim.
    pub(crate) fn is_script(&self) -> bool {
        self.name().starts_with("EVAL")
    }
}

/// The bytes of the next reply. What the server pushes in between is put before it.
pub(super) async fn read_reply(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let pushed = from.fill_buf().await?.first() == Some(&b'>');
        let mut values = 1;
        while values > 0 {
            let line = read_line(from, &mut bytes).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            values -= 1;
            match line[0] {
                b'$' | b'=' | b'!' => {
                    if let Ok(length) = usize::try_from(number(&line)?) {
                        read_bulk(from, &mut bytes, length as i64).await?;
                    }
                }
                b'*' | b'~' | b'>' => values += number(&line)?.max(0),
                b'%' => values += 2 * number(&line)?,
                _ => {}
            }
        }
        if !pushed {
            return Ok(bytes);
        }
    }
}

/// Reads a line, and appends it to `all` with its end. `None`: there is no more.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin), all: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    all.extend_from_slice(&line);
    if !line.ends_with(b"\r\n") || line.len() < 3 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    line.truncate(line.len() - 2);
    Ok(Some(line))
}

async fn read_bulk(from: &mut BufReader<OwnedReadHalf>, all: &mut Vec<u8>, length: i64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes).await?;
    all.extend_from_slice(&bytes);
    bytes.truncate(length);
    Ok(bytes)
}

/// The number behind the first byte of `line`.
fn number(line: &[u8]) -> io::Result<i64> {
    let digits = std::str::from_utf8(&line[1..]).map_err(|_| io::ErrorKind::InvalidData)?;
    digits.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}
