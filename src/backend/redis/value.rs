//! The layout of the values in Redis.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `IDMP` |
//! | 4 | layout version: `1` |
//! | 5 | state: `P` in progress, `C` completed |
//! | 6..22 | token |
//! | 22.. | in progress: the fingerprint, 48 bytes, and no more; completed: the record, in the layout of `codec.rs` |
//!
//! The first six bytes can be read by an operator (`GETRANGE key 0 5`). The first 22, the *header*, are what the scripts
//! compare: whose claim it is, and that it is still one. A record holds its fingerprint itself, so that none is stored
//! beside it.
//!
//! Decoding is total: any input yields a value or an [`Unreadable`], and the record is not copied. A release that writes
//! another layout has to read this one as well, and to go on writing it until it is told that all nodes can read the
//! other: nodes of two releases share a store during a deployment.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use redis::{Cmd, RedisWrite};

use crate::{DecodeError, Fingerprint, Record, Token};

const MAGIC: [u8; 4] = *b"IDMP";
const VERSION: u8 = b'1';

/// Length of a header in bytes.
const HEADER: usize = MAGIC.len() + 2 + Token::LEN;

/// The longest value that Redis accepts, unless it is told otherwise (`proto-max-bulk-len`).
const LONGEST: usize = 512 << 20;

/// What the header says of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    InProgress = b'P',
    Completed = b'C',
}

/// A value as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    InProgress { token: Token, fingerprint: Fingerprint },
    Completed(Record),
}

/// Bytes are not a value that this version of the crate can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    Foreign,
    Version(u8),
    State(u8),
    Length,
    Record(DecodeError),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("the value was not written by this crate"),
            Self::Version(version) => write!(f, "value layout version {:?} is not known", char::from(*version)),
            Self::State(state) => write!(f, "value state {:?} is not known", char::from(*state)),
            Self::Length => f.write_str("the value has an impossible length"),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {}

/// The header of the claim held by `token`.
pub(super) fn claim_header(token: Token) -> [u8; HEADER] {
    header(State::InProgress, token)
}

/// The value of a claim.
pub(super) fn claim(token: Token, fingerprint: &Fingerprint) -> [u8; HEADER + Fingerprint::LEN] {
    let mut value = [0; HEADER + Fingerprint::LEN];
    value[..HEADER].copy_from_slice(&claim_header(token));
    value[HEADER..].copy_from_slice(&fingerprint.to_bytes());
    value
}

/// Whether Redis could keep `record`.
pub(super) fn fits(record: &Record) -> bool {
    HEADER + record.size() <= LONGEST
}

/// Adds the value of a record to a command, without a copy in between.
pub(super) fn write_completed(command: &mut Cmd, token: Token, record: &Record) {
    let mut argument = command.bufmut_for_next_arg(HEADER + record.size());
    argument.put_slice(&header(State::Completed, token));
    argument.put_slice(&record.to_bytes());
}

/// Reads a whole value. The record shares its memory.
pub(super) fn decode(value: Vec<u8>) -> Result<Stored, Unreadable> {
    let mut rest = Bytes::from(value);
    let (state, token) = decode_header(&rest)?;
    rest.advance(HEADER);
    match state {
        State::InProgress => {
            let fingerprint = rest.as_ref().try_into().map_err(|_| Unreadable::Length)?;
            Ok(Stored::InProgress { token, fingerprint: Fingerprint::from_bytes(fingerprint) })
        }
        State::Completed => Record::from_bytes(rest).map(Stored::Completed).map_err(Unreadable::Record),
    }
}

/// Whether a value begins with a header that this version of the crate can read.
pub(super) fn check_header(value: &[u8]) -> Result<(), Unreadable> {
    decode_header(value).map(drop)
}

fn header(state: State, token: Token) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[5] = state as u8;
    header[6..].copy_from_slice(token.as_bytes());
    header
}

fn decode_header(value: &[u8]) -> Result<(State, Token), Unreadable> {
    let rest = value.strip_prefix(&MAGIC).ok_or(Unreadable::Foreign)?;
    let (&version, rest) = rest.split_first().ok_or(Unreadable::Length)?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let (&state, rest) = rest.split_first().ok_or(Unreadable::Length)?;
    let state = match state {
        b'P' => State::InProgress,
        b'C' => State::Completed,
        other => return Err(Unreadable::State(other)),
    };
    let token = rest.first_chunk().ok_or(Unreadable::Length)?;
    Ok((state, Token::from_bytes(*token)))
}

#[cfg(test)]
mod tests;
