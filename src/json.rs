//! JSON bodies.

use std::collections::HashMap;

use http::{HeaderMap, header};
use serde_json::{Number, Value, value::RawValue};

use crate::header_key::KeyText;

/// Integers up to this have a double of their own, and RFC 8785 knows no others.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;

/// The canonical form of a JSON body. `None`: its bytes speak for themselves.
pub(crate) fn canonical_body(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    if !says_json(headers) {
        return None;
    }
    canonical(&serde_json::from_slice(body).ok()?)
}

/// The canonical form of `value` (RFC 8785), unless that would change a number.
pub(crate) fn canonical(value: &Value) -> Option<Vec<u8>> {
    if is_exact(value) { serde_json_canonicalizer::to_vec(value).ok() } else { None }
}

/// The key that `pointers` find in a JSON body: one value, or all of them together.
pub(crate) fn key(body: &[u8], pointers: &[String]) -> Option<KeyText> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let values: Option<Vec<_>> =
        pointers.iter().map(|pointer| document.pointer(pointer).filter(|value| !value.is_null())).collect();
    match values?[..] {
        [Value::String(text)] => KeyText::of_value(text.as_bytes()),
        [value @ (Value::Number(_) | Value::Bool(_))] => KeyText::of_value(&form(value, body, pointers)?),
        [value] => Some(KeyText::digest_of(&form(value, body, pointers)?)),
        ref values => {
            let values = values.iter().copied().cloned().collect();
            Some(KeyText::digest_of(&form(&values, body, pointers)?))
        }
    }
}

/// One form for equal values, which are those that `pointers` find in `body`. Numbers that RFC 8785 would round stay what
/// they are, and the values around those that have been rounded already as they were sent.
fn form(value: &Value, body: &[u8], pointers: &[String]) -> Option<Vec<u8>> {
    if let Some(canonical) = canonical(value) {
        Some(canonical)
    } else if is_unrounded(value) {
        Some(value.to_string().into_bytes())
    } else {
        let sent: Option<Vec<_>> = pointers.iter().map(|pointer| sent(body, pointer)).collect();
        Some(sent?.join(",").into_bytes())
    }
}

/// The text of the value to which `pointer` points.
fn sent<'a>(body: &'a [u8], pointer: &str) -> Option<&'a str> {
    let mut value: &RawValue = serde_json::from_slice(body).ok()?;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        value = if value.get().starts_with('{') {
            serde_json::from_str::<HashMap<String, &RawValue>>(value.get()).ok()?.remove(&token)?
        } else {
            serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.into_iter().nth(token.parse().ok()?)?
        };
    }
    Some(value.get())
}

/// RFC 6901, section 3.
pub(crate) fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    escapes && (text.is_empty() || text.starts_with('/'))
}

fn is_exact(value: &Value) -> bool {
    numbers_are(value, &|number| number.as_f64().is_some_and(|number| number.abs() <= LARGEST_EXACT))
}

/// Whether each number is exact, or an integer of 64 bits: others beyond have been rounded when they were read.
fn is_unrounded(value: &Value) -> bool {
    numbers_are(value, &|number| !number.is_f64() || is_exact(&Value::Number(number.clone())))
}

fn numbers_are(value: &Value, wanted: &impl Fn(&Number) -> bool) -> bool {
    match value {
        Value::Number(number) => wanted(number),
        Value::Array(items) => items.iter().all(|item| numbers_are(item, wanted)),
        Value::Object(members) => members.values().all(|member| numbers_are(member, wanted)),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// `application/json`, or a type with the suffix `+json` (RFC 6839).
fn says_json(headers: &HeaderMap) -> bool {
    let Some(Ok(text)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_text(json: &str) -> Option<String> {
        let canonical = canonical(&serde_json::from_str(json).unwrap());
        canonical.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn equal_documents_have_one_form() {
        for (sent, form) in [
            (r#"{ "b": 1.0, "a": [ 1e2, "\u0041" ] }"#, r#"{"a":[100,"A"],"b":1}"#),
            (
                r#"{"\u20ac":1,"\r":2,"1":3,"\ud83d\ude00":4,"\ufb33":5}"#,
                "{\"\\r\":2,\"1\":3,\"€\":1,\"😀\":4,\"\u{fb33}\":5}",
            ),
            ("-0", "0"),
            ("9007199254740991", "9007199254740991"),
            ("null", "null"),
        ] {
            assert_eq!(canonical_text(sent).as_deref(), Some(form), "{sent}");
        }
    }

    #[test]
    fn numbers_that_would_be_rounded_have_none() {
        for sent in ["9007199254740992", "[9007199254740993]", r#"{"a":-9007199254740993}"#, "1e300"] {
            assert_eq!(canonical_text(sent), None, "{sent}");
        }
    }

    fn key_at(pointers: &[&str], body: &str) -> Option<String> {
        let pointers: Vec<_> = pointers.iter().map(|&pointer| pointer.to_owned()).collect();
        key(body.as_bytes(), &pointers).map(|text| text.as_str().to_owned())
    }

    #[test]
    fn a_simple_value_is_the_key_itself() {
        for (pointer, body, text) in [
            ("/id", r#"{"id":"evt_1"}"#, "evt_1"),
            ("/a/0/b~1c", r#"{"a":[{"b/c":"d"}]}"#, "d"),
            ("/id", r#"{"id":12345678901234567890}"#, "12345678901234567890"),
            ("/id", r#"{"id":1.50}"#, "1.5"),
            ("/id", r#"{"id":true}"#, "true"),
            ("", "\"whole\"", "whole"),
        ] {
            assert_eq!(key_at(&[pointer], body).as_deref(), Some(text), "{body}");
        }
    }

    #[test]
    fn what_is_missing_null_or_empty_is_no_key() {
        for body in ["{}", "[]", "", "no JSON", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":"a""#] {
            assert_eq!(key_at(&["/id"], body), None, "{body}");
        }
        assert_eq!(key_at(&["/id", "/at"], r#"{"id":1}"#), None);
    }

    #[test]
    fn other_values_are_digested_in_one_form() {
        let digests = [
            key_at(&["/a"], r#"{"a":{"x":1,"y":[2]}}"#),
            key_at(&["/a"], r#"{"a":{"x":1,"y":[3]}}"#),
            key_at(&["/a"], r#"{"a":"two words"}"#),
            key_at(&["/a", "/b"], r#"{"a":"1","b":2}"#),
            key_at(&["/a", "/b"], r#"{"a":1,"b":2}"#),
            key_at(&["/a", "/b"], r#"{"a":2,"b":1}"#),
            key_at(&["/a", "/b"], r#"{"a":9007199254740992,"b":1}"#),
            key_at(&["/a", "/b"], r#"{"a":9007199254740993,"b":1}"#),
        ];
        assert!(digests.iter().flatten().all(|text| text.starts_with("sha256:") && text.len() == 71));
        let distinct: std::collections::HashSet<_> = digests.iter().flatten().collect();
        assert_eq!(distinct.len(), digests.len());
        assert_eq!(key_at(&["/a"], r#" {"a" : {"y":[2.0], "x":1e0}} "#), digests[0]);
        assert_eq!(key_at(&["/a", "/b"], r#"{"b":1.0,"a":2}"#), digests[5]);
    }

    /// Beyond 64 bits a number has been rounded when it is read, and two events would be one.
    #[test]
    fn numbers_of_any_length_are_told_apart() {
        for (pointers, one, other) in [
            (&["/id"][..], r#"{"id":340282366920938463463374607431768211455}"#, "211454"),
            (&["/id"], r#"{"id":18446744073709551617}"#, "551618"),
            (&["/id"], r#"{"id":-9223372036854775809}"#, "775810"),
            (&["/a~1b/1/~0"], r#"{"a/b":[0, {"~": 18446744073709551617 }]}"#, "551618"),
            (&["/id"], r#"{"id":{"n":18446744073709551617}}"#, "551618"),
            (&["/id", "/at"], r#"{"at":1,"id":18446744073709551617}"#, "551618"),
            (&[""], "18446744073709551617", "551618"),
        ] {
            let digits = one.rfind(|digit: char| digit.is_ascii_digit()).unwrap() + 1;
            let other = [&one[..digits - 6], other, &one[digits..]].concat();
            let (one, other) = (key_at(pointers, one).unwrap(), key_at(pointers, &other).unwrap());
            assert_ne!(one, other);
        }
        let text = "340282366920938463463374607431768211455";
        assert_eq!(key_at(&["/id"], &format!(r#"{{ "id" : {text} , "at": 1 }}"#)).as_deref(), Some(text));
    }

    #[test]
    fn pointers_are_told_from_other_texts() {
        assert!(["", "/", "/a", "/a/0", "/a~0b~1c"].into_iter().all(is_pointer));
        assert!(!["a", "$.a", "#/a", "/a~2", "/a~"].into_iter().any(is_pointer));
    }
}
