//! JSON bodies.

use http::{HeaderMap, header};
use serde_json::Value;

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
        [value @ (Value::Number(_) | Value::Bool(_))] => KeyText::of_value(&form(value)),
        [value] => Some(KeyText::digest_of(&form(value))),
        ref values => Some(KeyText::digest_of(&form(&values.iter().copied().cloned().collect()))),
    }
}

/// One form for equal values. Numbers that RFC 8785 would round stay what they are.
fn form(value: &Value) -> Vec<u8> {
    canonical(value).unwrap_or_else(|| value.to_string().into_bytes())
}

/// RFC 6901, section 3.
pub(crate) fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    escapes && (text.is_empty() || text.starts_with('/'))
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= LARGEST_EXACT),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
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

    #[test]
    fn pointers_are_told_from_other_texts() {
        assert!(["", "/", "/a", "/a/0", "/a~0b~1c"].into_iter().all(is_pointer));
        assert!(!["a", "$.a", "#/a", "/a~2", "/a~"].into_iter().any(is_pointer));
    }
}
