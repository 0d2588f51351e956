//! Header and trailer lines in a record, and the numbers and byte strings that they are made of.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{DecodeError, Problem};
use crate::names;

const SENSITIVE: u8 = 0x80;

/// A header or trailer line.
type Line<'a> = (&'a HeaderName, &'a HeaderValue);

/// How many lines there are, and how many bytes they take. Exact, so that encoding allocates once and a stored record
/// carries no slack.
pub(super) fn measure_lines<'a>(lines: impl Iterator<Item = Line<'a>>) -> (usize, usize) {
    lines.fold((0, 0), |(count, size), (name, value)| {
        let literal = if names::code(name).is_some() { 0 } else { size_of_prefixed(name.as_str().len()) };
        (count + 1, size + 1 + literal + size_of_prefixed(value.len()))
    })
}

fn size_of_prefixed(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    bits.div_ceil(7).max(1) as usize + length
}

pub(super) fn put_lines<'a>(out: &mut BytesMut, lines: impl Iterator<Item = Line<'a>>) -> Option<()> {
    for (name, value) in lines {
        let sensitive = if value.is_sensitive() { SENSITIVE } else { 0 };
        match names::code(name) {
            Some(code) => out.put_u8(code | sensitive),
            None => {
                out.put_u8(sensitive);
                put_prefixed(out, name.as_str().as_bytes())?;
            }
        }
        put_prefixed(out, value.as_bytes())?;
    }
    Some(())
}

/// What is left to read of a record. Only what outlives the reading shares the record's memory: to count a reference costs
/// more than to read a number.
pub(super) struct Reader<'a> {
    record: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(record: &'a Bytes) -> Self {
        Self { record, at: 0 }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let taken = self.record[self.at..].get(..length).ok_or(DecodeError(Problem::Truncated))?;
        self.at += length;
        Ok(taken)
    }

    pub(super) fn remaining(&self) -> usize {
        self.record.len() - self.at
    }

    pub(super) fn rest(self) -> Bytes {
        self.record.slice(self.at..)
    }

    pub(super) fn take_lines(&mut self, count: u16) -> Result<HeaderMap, DecodeError> {
        // A line takes two bytes at least, so a forged count cannot ask for more than the input justifies.
        // Room for two more: a replay is marked, and a server adds a length. More lines than a map has places for names
        // share names, or do not fit below.
        let room = usize::from(count).min(self.remaining() / 2) + 2;
        let mut lines = HeaderMap::try_with_capacity(room).unwrap_or_default();
        for _ in 0..count {
            let first = self.take(1)?[0];
            let name = match first & !SENSITIVE {
                0 => {
                    let length = self.take_length()?;
                    HeaderName::from_lowercase(self.take(length)?).map_err(|_| DecodeError(Problem::Name))?
                }
                code => names::name(code).ok_or(DecodeError(Problem::Name))?,
            };
            let length = self.take_length()?;
            self.take(length)?;
            let value = self.record.slice(self.at - length..self.at);
            let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| DecodeError(Problem::Value))?;
            value.set_sensitive(first & SENSITIVE != 0);
            lines.try_append(name, value).map_err(|_| DecodeError(Problem::Length))?;
        }
        Ok(lines)
    }

    /// A varint that is the length of what follows.
    fn take_length(&mut self) -> Result<usize, DecodeError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            let bits = u32::from(byte & 0x7f);
            if bits > u32::MAX >> shift || (byte == 0 && shift > 0) {
                break; // more than 32 bits, or not the shortest form
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| DecodeError(Problem::Length));
            }
        }
        Err(DecodeError(Problem::Length))
    }
}

fn put_prefixed(out: &mut BytesMut, bytes: &[u8]) -> Option<()> {
    let mut length = u32::try_from(bytes.len()).ok()?;
    while length >= 0x80 {
        out.put_u8(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    out.put_u8(length.to_le_bytes()[0]);
    out.put_slice(bytes);
    Some(())
}
