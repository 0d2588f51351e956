//! Documents of JSON that are made out of an input, and their spellings.

use std::fmt::Write;

use super::{input::Input, rfc8785::Plain};

/// A document, with all that its sender wrote: members in their order, some of them twice.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// Digits, and the power of ten that they are multiplied by.
    Number(bool, u64, i32),
    Double(f64),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    /// `None`: it goes too deep to be of interest.
    pub(super) fn read(input: &mut Input<'_>, depth: usize) -> Option<Self> {
        Some(match input.below(8) {
            0 => Self::Null,
            1 => Self::Bool(input.byte() & 1 == 1),
            2 => Self::Number(input.byte() & 1 == 1, input.one_of(&NUMBERS), 0),
            3 => {
                let digits =
                    input.take(usize::from(input.clone().below(9))).iter().fold(0, |n, b| n << 8 | u64::from(*b));
                Self::Number(input.byte() & 1 == 1, digits, i32::from(input.byte().cast_signed() / 4))
            }
            4 | 5 => Self::Text(text(input)),
            _ if depth > 8 => return None,
            6 => Self::Array((0..input.below(4)).map(|_| Self::read(input, depth + 1)).collect::<Option<_>>()?),
            _ => {
                let members = (0..input.below(4)).map(|_| Some((text(input), Self::read(input, depth + 1)?)));
                Self::Object(members.collect::<Option<_>>()?)
            }
        })
    }

    pub(super) fn plain(&self) -> Plain {
        match self {
            Self::Null => Plain::Null,
            Self::Bool(value) => Plain::Bool(*value),
            Self::Number(negative, digits, power) => Plain::Number(double(*negative, *digits, *power)),
            Self::Double(value) => Plain::Number(*value),
            Self::Text(text) => Plain::Text(text.clone()),
            Self::Array(items) => Plain::Array(items.iter().map(Self::plain).collect()),
            // Of members with one name the last counts.
            Self::Object(members) => Plain::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.encode_utf16().collect(), (name.clone(), value.plain())))
                    .collect(),
            ),
        }
    }

    /// RFC 8785. `None`: a number would be rounded.
    pub(super) fn canonical(&self) -> Option<Vec<u8>> {
        let mut out = String::new();
        self.plain().write(&mut out)?;
        Some(out.into_bytes())
    }

    /// The document in one of its spellings.
    pub(super) fn spelled(&self, input: &mut Input<'_>) -> String {
        let blank = |input: &mut Input<'_>| input.one_of(&["", "", "", " ", "\n\t", "\r "]);
        let spelled = match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(negative, digits, power) => spelled_number(*negative, *digits, *power, input),
            Self::Double(value) => value.to_string(),
            Self::Text(text) => spelled_text(text, input),
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| item.spelled(input)).collect();
                format!("[{}{}]", blank(input), items.join(","))
            }
            Self::Object(members) => {
                let spelled = in_some_order(members, input);
                let spelled = spelled.into_iter().map(|(name, value)| {
                    let name = spelled_text(name, input);
                    format!("{}{name}{}:{}", blank(input), blank(input), value.spelled(input))
                });
                format!("{{{}{}}}", spelled.collect::<Vec<_>>().join(","), blank(input))
            }
        };
        format!("{}{spelled}{}", blank(input), blank(input))
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Double(number.as_f64().unwrap()),
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Object(members) => {
                Self::Object(members.into_iter().map(|(name, value)| (name, Self::from(value))).collect())
            }
        }
    }
}

/// Integers that have a double of their own and may be told from all others, and such that do not.
const NUMBERS: [u64; 6] = [0, 10, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, u64::MAX];

fn double(negative: bool, digits: u64, power: i32) -> f64 {
    let sign = if negative { "-" } else { "" };
    format!("{sign}{digits}e{power}").parse().unwrap()
}

/// Any characters, those that are written in a special way among them.
fn text(input: &mut Input<'_>) -> String {
    (0..input.below(6))
        .map(|_| match input.below(8) {
            0 => input.one_of(&['"', '\\', '/', '\u{8}', '\u{c}', '\n', '\r', '\t', '\0', '\u{1f}', '\u{7f}']),
            1 => input.one_of(&['€', '\u{fb33}', '\u{e000}', '\u{ffff}', '😀', '\u{10ffff}', '\u{2028}', '\u{d7ff}']),
            2 => char::from(input.byte()),
            _ => input.one_of(&['a', 'b', 'c', '0', 'A', '~']),
        })
        .collect()
}

/// Members with different names may change places.
fn in_some_order<'a>(members: &'a [(String, Json)], input: &mut Input<'_>) -> Vec<&'a (String, Json)> {
    let mut members: Vec<_> = members.iter().collect();
    for i in 1..members.len() {
        if input.byte() & 1 == 1 && members[i - 1].0 != members[i].0 {
            members.swap(i - 1, i);
        }
    }
    members
}

fn spelled_text(text: &str, input: &mut Input<'_>) -> String {
    let mut out = "\"".to_owned();
    for char in text.chars() {
        let short =
            "\"\"\\\\//b\u{8}f\u{c}n\nr\rt\t".as_bytes().chunks(2).find(|pair| u32::from(pair[1]) == u32::from(char));
        let must = char < ' ' || matches!(char, '"' | '\\');
        match (input.below(4), short) {
            (0, Some(pair)) => write!(out, "\\{}", char::from(pair[0])).unwrap(),
            (choice, _) if must || choice == 1 => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let digits = format!("{unit:04x}");
                    let digits = if input.byte() & 1 == 1 { digits.to_uppercase() } else { digits };
                    write!(out, "\\u{digits}").unwrap();
                }
            }
            _ => out.push(char),
        }
    }
    out + "\""
}

fn spelled_number(negative: bool, mut digits: u64, mut power: i32, input: &mut Input<'_>) -> String {
    // Zeros at the end of the digits, or none.
    for _ in 0..input.below(4) {
        if let Some(longer) = digits.checked_mul(10) {
            (digits, power) = (longer, power - 1);
        }
    }
    let sign = if negative { "-" } else { "" };
    let text = digits.to_string();
    let point = usize::from(input.below(20)).min(text.len() - 1);
    let e = input.one_of(&["e", "E"]);
    if point > 0 {
        let (whole, fraction) = text.split_at(text.len() - point);
        let power = power + i32::try_from(point).unwrap();
        return if power == 0 {
            format!("{sign}{whole}.{fraction}")
        } else {
            format!("{sign}{whole}.{fraction}{e}{power}")
        };
    }
    match power {
        0 => format!("{sign}{text}"),
        1.. if input.byte() & 1 == 1 => format!("{sign}{text}{e}+{power}"),
        1..=18 if digits > 0 => format!("{sign}{text}{}", "0".repeat(power.unsigned_abs() as usize)),
        _ => format!("{sign}{text}{e}{power}"),
    }
}
