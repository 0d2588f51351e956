//! HTTP/1 byte by byte, where a client library would smooth over what is to be seen or sent.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Answer, PATIENCE};

/// Connects and writes `bytes`; what follows is up to the test.
pub(crate) async fn connect(server: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Writes `request`, which must ask for the connection to be closed, and reads all that comes.
pub(crate) async fn exchange(server: SocketAddr, request: &[u8]) -> RawAnswer {
    RawAnswer::read(connect(server, request).await).await
}

/// Reads whatever comes until the server closes.
pub(crate) async fn read_until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server does not close").unwrap();
    bytes
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    status: String,
    /// In the order and spelling in which they came.
    pub(crate) lines: Vec<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    /// Reads until the server closes.
    pub(crate) async fn read(stream: TcpStream) -> Self {
        let bytes = read_until_closed(stream).await;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an HTTP/1 head");
        let (head, body) = (&bytes[..end], bytes[end + 4..].to_vec());
        let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.trim_ascii_end().to_vec());
        let status = String::from_utf8(lines.next().unwrap()).unwrap();
        Self { status, lines: lines.collect(), body }
    }

    /// This replays `first`: nothing differs but the marker and the date.
    #[track_caller]
    pub(crate) fn assert_replays(&self, first: &Self) {
        assert_eq!(self.status, first.status);
        assert_eq!(self.count(b"idempotent-replayed: true"), 1, "{self:?}");
        assert_eq!(first.count(b"idempotent-replayed:"), 0, "{first:?}");
        assert_eq!(self.comparable(), first.comparable());
        assert_eq!(self.body, first.body);
    }

    fn comparable(&self) -> Vec<String> {
        let moving: [&[u8]; 2] = [b"date:", b"idempotent-replayed:"];
        let fixed = self.lines.iter().filter(|line| !moving.iter().any(|name| line.starts_with(name)));
        fixed.map(|line| line.escape_ascii().to_string()).collect()
    }

    /// How many header lines start with `start`.
    pub(crate) fn count(&self, start: &[u8]) -> usize {
        self.lines.iter().filter(|line| line.starts_with(start)).count()
    }

    pub(crate) fn parsed(&self) -> Answer {
        let mut headers = HeaderMap::new();
        for line in &self.lines {
            let colon = line.iter().position(|&byte| byte == b':').unwrap();
            let name = HeaderName::from_bytes(&line[..colon]).unwrap();
            headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).unwrap());
        }
        let status: StatusCode = self.status.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers, body: Bytes::from(self.body.clone()), trailers: None }
    }
}
