//! The layout in which a [`Record`](crate::Record) is persisted.
//!
//! Numbers are big endian; a *varint* is an unsigned LEB128 of at most 32 bits in its shortest form.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | layout version: 1 |
//! | 1 | kind: 0 tombstone, 1 response, 2 value, 3 outcome unknown |
//! | 2..50 | fingerprint |
//! | 50.. | by kind: nothing for 0 and 3; the value for 2; a response for 1 |
//!
//! A response is its status (2 bytes), the number of header lines (2 bytes), the number of trailer lines (2 bytes;
//! `0xffff`: no trailers at all), then the header lines, the trailer lines, and the body up to the end.
//!
//! A line is a name and a value. The name is one byte, whose highest bit marks a sensitive value and whose other bits
//! are a code: 1 and up for the names in `names.rs`, 0 for a name that follows as varint length and lower-case bytes.
//! The value is a varint length and the raw bytes. Lines with equal names keep their order. A body that is there has
//! the length that a `Content-Length` says.
//!
//! Decoding is total: any input yields a record or a [`DecodeError`], without a panic and without allocating more than
//! the input justifies. Codes and kinds are never reused; what cannot be said in this layout gets another version.

mod lines;

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};

use self::lines::{Reader, measure_lines, put_lines};
use crate::{Fingerprint, capture::declared_length};

const VERSION: u8 = 1;

const TOMBSTONE: u8 = 0;
const RESPONSE: u8 = 1;
const VALUE: u8 = 2;
const OUTCOME_UNKNOWN: u8 = 3;

const PREAMBLE: usize = 2 + Fingerprint::LEN;
const NO_TRAILERS: u16 = u16::MAX;

/// What a record says of its run.
#[derive(Debug)]
pub(crate) enum Content {
    Tombstone,
    Response(Recorded),
    Value(Bytes),
    OutcomeUnknown,
}

/// A response as it was recorded. The body and the header values share the record's memory.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Bytes are not a record that this version of the crate can read.
///
/// The error of [`Record::from_bytes`](crate::Record::from_bytes). `Display` says what is wrong, without the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError(Problem);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Version(u8),
    Kind(u8),
    Truncated,
    TrailingBytes,
    Length,
    Status,
    Name,
    Value,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Problem::Version(version) => write!(f, "record layout version {version} is not known"),
            Problem::Kind(kind) => write!(f, "record kind {kind} is not known"),
            Problem::Truncated => f.write_str("record ends too early"),
            Problem::TrailingBytes => f.write_str("record goes on after its end"),
            Problem::Length => f.write_str("record holds an invalid length"),
            Problem::Status => f.write_str("record holds an invalid status"),
            Problem::Name => f.write_str("record holds an invalid header name"),
            Problem::Value => f.write_str("record holds an invalid header value"),
        }
    }
}

impl std::error::Error for DecodeError {}

pub(crate) fn encode_tombstone(fingerprint: &Fingerprint) -> Bytes {
    preamble(TOMBSTONE, fingerprint, 0).freeze()
}

pub(crate) fn encode_outcome_unknown(fingerprint: &Fingerprint) -> Bytes {
    preamble(OUTCOME_UNKNOWN, fingerprint, 0).freeze()
}

pub(crate) fn encode_value(fingerprint: &Fingerprint, value: &[u8]) -> Bytes {
    let mut out = preamble(VALUE, fingerprint, value.len());
    out.put_slice(value);
    out.freeze()
}

/// Only header and trailer lines whose names `keeps` names are encoded. `None` when a count or a length does not fit the
/// layout.
pub(crate) fn encode_response(
    fingerprint: &Fingerprint,
    status: StatusCode,
    headers: &HeaderMap,
    keeps: impl Fn(&HeaderName) -> bool,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> Option<Bytes> {
    let header_lines = || headers.iter().filter(|(name, _)| keeps(name));
    let trailer_lines = || trailers.into_iter().flatten().filter(|(name, _)| keeps(name));
    let (header_count, header_size) = measure_lines(header_lines());
    let (trailer_count, trailer_size) = measure_lines(trailer_lines());
    let mut out = preamble(RESPONSE, fingerprint, 6 + header_size + trailer_size + body.len());
    out.put_u16(status.as_u16());
    out.put_u16(count(header_count)?);
    out.put_u16(trailers.map_or(Some(NO_TRAILERS), |_| count(trailer_count))?);
    put_lines(&mut out, header_lines())?;
    put_lines(&mut out, trailer_lines())?;
    out.put_slice(body);
    Some(out.freeze())
}

/// The fingerprint of a valid record.
pub(crate) fn fingerprint(record: &[u8]) -> Fingerprint {
    let mut bytes = [0; Fingerprint::LEN];
    bytes.copy_from_slice(&record[2..PREAMBLE]);
    Fingerprint::from_bytes(bytes)
}

/// Reads a whole record. Nothing of the body is copied.
pub(crate) fn decode(record: &Bytes) -> Result<Content, DecodeError> {
    let mut reader = Reader::new(record);
    let [version, kind] = *reader.take(2)? else { return Err(DecodeError(Problem::Truncated)) };
    if version != VERSION {
        return Err(DecodeError(Problem::Version(version)));
    }
    reader.take(Fingerprint::LEN)?;
    match kind {
        TOMBSTONE => at_end(&reader, Content::Tombstone),
        OUTCOME_UNKNOWN => at_end(&reader, Content::OutcomeUnknown),
        VALUE => Ok(Content::Value(reader.rest())),
        RESPONSE => decode_response(reader).map(Content::Response),
        kind => Err(DecodeError(Problem::Kind(kind))),
    }
}

fn decode_response(mut reader: Reader<'_>) -> Result<Recorded, DecodeError> {
    let mut counts = reader.take(6)?;
    let status = StatusCode::from_u16(counts.get_u16()).map_err(|_| DecodeError(Problem::Status))?;
    let headers = counts.get_u16();
    let trailers = counts.get_u16();
    let recorded = Recorded {
        status,
        headers: reader.take_lines(headers)?,
        trailers: if trailers == NO_TRAILERS { None } else { Some(reader.take_lines(trailers)?) },
        body: reader.rest(),
    };
    if recorded.has_another_length_than_it_says() { Err(DecodeError(Problem::Length)) } else { Ok(recorded) }
}

impl Recorded {
    /// A client that believes it would take a part of the body for its next response, or the other way round. What a
    /// response to HEAD says is the length of another one.
    fn has_another_length_than_it_says(&self) -> bool {
        !self.body.is_empty()
            && self.headers.contains_key(header::CONTENT_LENGTH)
            && declared_length(&self.headers) != Some(self.body.len() as u64)
    }
}

fn at_end(reader: &Reader<'_>, content: Content) -> Result<Content, DecodeError> {
    if reader.remaining() == 0 { Ok(content) } else { Err(DecodeError(Problem::TrailingBytes)) }
}

fn preamble(kind: u8, fingerprint: &Fingerprint, further: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(PREAMBLE + further);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_slice(&fingerprint.to_bytes());
    out
}

fn count(lines: usize) -> Option<u16> {
    u16::try_from(lines).ok().filter(|&count| count != NO_TRAILERS)
}

#[cfg(test)]
mod tests;
