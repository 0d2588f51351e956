//! Header and trailer lines in a record, and the numbers and byte strings that they are made of.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{DecodeError, Problem};
use crate::names;

const SENSITIVE: u8 = 0x80;

/// A header or trailer line.
type Line<'a> = (&'a HeaderName, &'a HeaderValue);

/// Exact, so that encoding allocates once and a stored record carries no slack.
pub(super) fn size_of_lines<'a>(lines: impl Iterator<Item = Line<'a>>) -> usize {
    lines
        .map(|(name, value)| {
            let literal = if names::code(name).is_some() { 0 } else { size_of_prefixed(name.as_str().len()) };
            1 + literal + size_of_prefixed(value.len())
        })
        .sum()
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

pub(super) fn take_lines(rest: &mut Bytes, count: u16) -> Result<HeaderMap, DecodeError> {
    // A line takes two bytes at least, so a forged count cannot ask for more than the input justifies.
    // Room for one more: a replay is marked.
    let mut lines = HeaderMap::with_capacity(usize::from(count).min(rest.len() / 2) + 1);
    for _ in 0..count {
        let first = take(rest, 1)?[0];
        let name = match first & !SENSITIVE {
            0 => HeaderName::from_lowercase(&take_prefixed(rest)?).map_err(|_| DecodeError(Problem::Name))?,
            code => names::name(code).ok_or(DecodeError(Problem::Name))?,
        };
        let value = take_prefixed(rest)?;
        let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| DecodeError(Problem::Value))?;
        value.set_sensitive(first & SENSITIVE != 0);
        lines.try_append(name, value).map_err(|_| DecodeError(Problem::Length))?;
    }
    Ok(lines)
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

fn take_prefixed(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = take_varint(rest)?;
    take(rest, usize::try_from(length).map_err(|_| DecodeError(Problem::Length))?)
}

fn take_varint(rest: &mut Bytes) -> Result<u32, DecodeError> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = take(rest, 1)?[0];
        let bits = u32::from(byte & 0x7f);
        if bits > u32::MAX >> shift || (byte == 0 && shift > 0) {
            break; // more than 32 bits, or not the shortest form
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError(Problem::Length))
}

pub(super) fn take(rest: &mut Bytes, length: usize) -> Result<Bytes, DecodeError> {
    if rest.len() < length { Err(DecodeError(Problem::Truncated)) } else { Ok(rest.split_to(length)) }
}
