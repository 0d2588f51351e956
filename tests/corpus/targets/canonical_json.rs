//! Bodies of JSON have one fingerprint if and only if they mean the same, whatever their spelling; what cannot be told apart
//! that way counts byte by byte.
//!
//! Documents are made out of the input and then spelled, so that what they mean is known without a parser.

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write, thread_local};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use tower_idempotency::{FingerprintPolicy, Key, KeySource};

use super::{
    desk::Desk,
    digest::{prefixed, sha256, text_of},
    input::Input,
};

/// 2^53 - 1: integers beyond have no double of their own.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;

thread_local! {
    static POLICY: Desk = Desk::new(|layer| {
        layer.key(KeySource::by(|_, _| Some("k"))).fingerprint(FingerprintPolicy::canonical_json())
    });
    static POINTER: Desk = Desk::new(|layer| layer.key(KeySource::json_pointer("")));
    static POINTERS: Desk = Desk::new(|layer| layer.key(KeySource::json_pointers(["", "/0", "/a"])));
}

pub(crate) fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 4 {
        0 => any_text_is_canonical_or_itself(rest),
        1 => deep_nesting_is_bounded(Input(rest)),
        _ => spellings_do_not_count_and_values_do(Input(rest)),
    }
}

/// The part of the fingerprint that says what the request is.
fn fingerprint(body: &[u8]) -> [u8; 32] {
    let asked = POLICY.with(|desk| desk.ask(request(body)));
    let (_, fingerprint) = asked.claim.expect("it is claimed");
    *fingerprint.to_bytes().first_chunk().unwrap()
}

fn request(body: &[u8]) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body));
    Request::post("/").header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
}

/// The fingerprint of a request whose body counts as `body`.
fn fingerprint_of(body: &[u8]) -> [u8; 32] {
    let target = [&b"POST"[..], b"", b"/"].into_iter().flat_map(prefixed);
    sha256(&target.chain(body.iter().copied()).collect::<Vec<_>>())
}

/// Any bytes: the fingerprint is that of the canonical form of what a parser makes of them, or that of the bytes.
fn any_text_is_canonical_or_itself(text: &[u8]) {
    let expected =
        serde_json::from_slice::<serde_json::Value>(text).ok().and_then(|value| Json::from(value).canonical());
    assert_eq!(fingerprint(text), fingerprint_of(expected.as_deref().unwrap_or(text)));
    if let Some(canonical) = &expected {
        assert_eq!(fingerprint(canonical), fingerprint_of(canonical), "the canonical form has another one");
    }
    let keys = [&POINTER, &POINTERS].map(|desk| desk.with(|desk| desk.ask(request(text)).claim.map(|(key, _)| key)));
    let Some(canonical) = expected else { return };
    let pointed = [&POINTER, &POINTERS].map(|desk| desk.with(|desk| desk.ask(request(&canonical)).claim));
    assert_eq!(keys, pointed.map(|claim| claim.map(|(key, _)| key)), "equal documents have different keys");
}

/// Whatever is nested deeper than a parser goes is bytes.
fn deep_nesting_is_bounded(mut input: Input<'_>) {
    let depth = usize::from(input.byte()) * (1 << (input.byte() % 10));
    let (open, close) = [("[", "]"), ("{\"a\":", "}")][usize::from(input.byte() % 2)];
    let text = format!("{}{}{}", open.repeat(depth), "1", close.repeat(depth));
    let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    assert_eq!(parsed.is_some(), depth < 128);
    assert_eq!(fingerprint(text.as_bytes()), fingerprint_of(text.as_bytes()), "spelled canonically, or bytes");
    POINTER.with(|desk| desk.ask(request(text.as_bytes())));
}

fn spellings_do_not_count_and_values_do(mut input: Input<'_>) {
    let Some(one) = Json::read(&mut input, 0) else { return };
    let Some(other) = Json::read(&mut input, 0) else { return };
    let [first, again, second] = [&one, &one, &other].map(|json| {
        let spelled = json.spelled(&mut input);
        let found = fingerprint(spelled.as_bytes());
        match json.canonical() {
            Some(canonical) => assert_eq!(found, fingerprint_of(&canonical), "{spelled}"),
            None => assert_eq!(found, fingerprint_of(spelled.as_bytes()), "{spelled}"),
        }
        (found, spelled)
    });
    let exact = one.canonical().is_some();
    assert!(!exact || first.0 == again.0, "{} and {}", first.1, again.1);
    assert!(!exact || (first.0 == second.0) == (one.plain() == other.plain()), "{} and {}", first.1, second.1);
    let key = POINTER.with(|desk| desk.ask(request(first.1.as_bytes()))).claim.map(|(key, _)| key);
    assert!(!exact || key == one.key(), "the key of {}", first.1);
}

/// A document, with all that its sender wrote: members in their order, some of them twice.
#[derive(Debug, Clone)]
enum Json {
    Null,
    Bool(bool),
    /// Digits, and the power of ten that they are multiplied by.
    Number(bool, u64, i32),
    Double(f64),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// What a document means.
#[derive(Debug, PartialEq)]
enum Plain {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Self>),
    Object(BTreeMap<Vec<u16>, (String, Self)>),
}

impl Json {
    /// `None`: it goes too deep to be of interest.
    fn read(input: &mut Input<'_>, depth: usize) -> Option<Self> {
        Some(match input.below(8) {
            0 => Self::Null,
            1 => Self::Bool(input.byte() & 1 == 1),
            2 | 3 => {
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

    fn plain(&self) -> Plain {
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
    fn canonical(&self) -> Option<Vec<u8>> {
        let mut out = String::new();
        self.plain().write(&mut out)?;
        Some(out.into_bytes())
    }

    /// The key that the whole document is.
    fn key(&self) -> Option<Key> {
        let canonical = self.canonical()?;
        let text = match self.plain() {
            Plain::Null => return None,
            Plain::Text(text) => text.into_bytes(),
            Plain::Bool(_) | Plain::Number(_) => canonical,
            _ => return Some(Key::new("", text_of(sha256(&canonical)))),
        };
        let is_text = text.len() <= 255 && text.iter().all(u8::is_ascii_graphic);
        (!text.is_empty()).then(|| if is_text { Key::new("", text) } else { Key::new("", text_of(sha256(&text))) })
    }

    /// The document in one of its spellings.
    fn spelled(&self, input: &mut Input<'_>) -> String {
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

impl Plain {
    fn write(&self, out: &mut String) -> Option<()> {
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
