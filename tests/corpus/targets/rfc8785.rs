//! What a document of JSON means, and how RFC 8785 writes it: a second implementation.

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write};

/// 2^53 - 1: integers beyond have no double of their own.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;

/// What a document means.
#[derive(Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Self>),
    Object(BTreeMap<Vec<u16>, (String, Self)>),
}

impl Plain {
    pub(super) fn write(&self, out: &mut String) -> Option<()> {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&ecmascript(*number).filter(|_| number.abs() <= LARGEST_EXACT)?),
            Self::Text(text) => write_text(text, out),
            Self::Array(items) => write_list(out, ['[', ']'], items, Self::write)?,
            Self::Object(members) => write_list(out, ['{', '}'], members.values(), |(name, value), out| {
                write_text(name, out);
                out.push(':');
                value.write(out)
            })?,
        }
        Some(())
    }
}

fn write_list<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut String) -> Option<()>,
) -> Option<()> {
    out.push(open);
    for (number, item) in items.into_iter().enumerate() {
        out.push_str(if number == 0 { "" } else { "," });
        write(item, out)?;
    }
    out.push(close);
    Some(())
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..' ' => write!(out, "\\u{:04x}", u32::from(char)).unwrap(),
            _ => out.push(char),
        }
    }
    out.push('"');
}

/// A number as ECMAScript writes it (ECMA-262, section 6.1.6.1.20).
fn ecmascript(number: f64) -> Option<String> {
    if number == 0.0 {
        return Some("0".to_owned());
    }
    let shortest = format!("{:e}", number.abs());
    let (digits, exponent) = shortest.split_once('e')?;
    let (digits, point) = (even_in_the_middle(digits, number.abs())?, exponent.parse::<i32>().ok()? + 1);
    let (sign, length) = (if number < 0.0 { "-" } else { "" }, i32::try_from(digits.len()).ok()?);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    Some(match (point.cmp(&length), point) {
        (Ordering::Equal | Ordering::Greater, ..=21) => format!("{sign}{digits}{}", zeros(point - length)),
        (Ordering::Less, 1..) => {
            let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
            format!("{sign}{whole}.{fraction}")
        }
        (Ordering::Less, -5..=0) => format!("{sign}0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let point_and_rest = if rest.is_empty() { String::new() } else { format!(".{rest}") };
            format!("{sign}{first}{point_and_rest}e{}{}", if point > 0 { "+" } else { "-" }, (point - 1).abs())
        }
    })
}

/// The shortest digits that mean a number. Rust finds the same ones, but where the number lies in the middle between two:
/// there ECMAScript takes the even ones.
fn even_in_the_middle(shortest: &str, number: f64) -> Option<String> {
    let shortest = shortest.replace('.', "");
    if shortest.len() < 16 {
        return Some(shortest); // with so few digits no two are the same double
    }
    let exact = format!("{number:.*e}", shortest.len() + 30);
    let (exact, exponent) = exact.split_once('e')?;
    let exact = exact.replace('.', "");
    let (below, rest) = exact.split_at(shortest.len());
    let below: u64 = below.parse().ok()?;
    let even = (below + below % 2).to_string();
    let means_it = || format!("{}.{}e{exponent}", &even[..1], &even[1..]).parse() == Ok(number);
    let in_the_middle = rest.trim_end_matches('0') == "5" && even.len() == shortest.len();
    Some(if in_the_middle && means_it() { even } else { shortest })
}
