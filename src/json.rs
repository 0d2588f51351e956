//! JSON bodies.

use http::{HeaderMap, header};
use serde_json::Value;

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
}
