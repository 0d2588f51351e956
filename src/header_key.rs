//! The text of a key, and how a client sends it in a header.

use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::{Key, Rejection};

/// The header that most clients send, and its twin of draft-ietf-httpapi-idempotency-key-header.
static NAMES: [HeaderName; 2] =
    [HeaderName::from_static("x-idempotency-key"), HeaderName::from_static("idempotency-key")];

/// Longest key text in bytes.
const MAX_LEN: usize = 255;

/// The text of a key as the client means it: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyText(HeaderValue);

impl KeyText {
    /// The key that a request carries. `None`: it carries none.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Rejection> {
        // A look at all names costs less than to hash two that are mostly not there.
        let mut values = [None, None];
        for (name, value) in headers {
            let Some(which) = NAMES.iter().position(|twin| twin == name) else { continue };
            if values[which].replace(value).is_some() {
                return Err(Rejection::KeyAmbiguous);
            }
        }
        let [one, other] = values;
        match (one.map(Self::parse).transpose()?, other.map(Self::parse).transpose()?) {
            (Some(one), Some(other)) if one != other => Err(Rejection::KeyAmbiguous),
            (one, other) => Ok(one.or(other)),
        }
    }

    pub(crate) fn in_header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Rejection> {
        let mut lines = headers.get_all(name).iter();
        let Some(value) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(Rejection::KeyAmbiguous);
        }
        Self::parse(value).map(Some)
    }

    /// A String of RFC 8941, section 3.3.3, means what is between its quotes; anything else means itself.
    fn parse(value: &HeaderValue) -> Result<Self, Rejection> {
        let sent = value.as_bytes().trim_ascii();
        let text = match sent.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted).and_then(|text| HeaderValue::from_bytes(&text).ok()),
            None if sent.len() == value.len() => Some(value.clone()),
            None => HeaderValue::from_bytes(sent).ok(),
        };
        text.and_then(Self::valid).ok_or(Rejection::KeyInvalid)
    }

    fn valid(text: HeaderValue) -> Option<Self> {
        let visible = text.as_bytes().iter().all(u8::is_ascii_graphic);
        (visible && (1..=MAX_LEN).contains(&text.len())).then_some(Self(text))
    }

    /// The key that a value found elsewhere means: itself if it can be a key, else its digest. `None`: it is empty.
    pub(crate) fn of_value(value: &[u8]) -> Option<Self> {
        if value.is_empty() {
            return None;
        }
        let itself = HeaderValue::from_bytes(value).ok().and_then(Self::valid);
        Some(itself.unwrap_or_else(|| Self::digest_of(value)))
    }

    /// The key of a value that is none itself.
    pub(crate) fn digest_of(value: &[u8]) -> Self {
        Self::of_digest(Sha256::digest(value).into())
    }

    pub(crate) fn of_digest(digest: [u8; Key::LEN]) -> Self {
        let text = format!("sha256:{}", Key::from_bytes(digest));
        Self(HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("sha256"))) // visible ASCII
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default() // visible ASCII, by construction
    }
}

/// What stands before the closing quote, with `\"` and `\\` resolved. Nothing may follow the quote: a key has no
/// parameters.
fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.as_slice().is_empty().then_some(text),
            b'\\' => text.push(*bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
            byte => text.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[(&'static str, &[u8])]) -> Result<Option<String>, Rejection> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        Ok(KeyText::of(&headers)?.map(|text| text.as_str().to_owned()))
    }

    #[test]
    fn accepted_forms_mean_one_text() {
        let longest = "k".repeat(255);
        for (sent, meant) in [
            ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ("340282366920938463463374607431768211455", "340282366920938463463374607431768211455"),
            ("auto_8e03978e-40d5-43e8-bc93-6894a57f9324", "auto_8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ("stainless-python-retry-8e03978e", "stainless-python-retry-8e03978e"),
            ("order:2024/11", "order:2024/11"),
            ("q83vEjRWeJ+/==", "q83vEjRWeJ+/=="),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#"a"b\c"#, r#"a"b\c"#),
            ("  padded\t", "padded"),
            ("{tag}", "{tag}"),
            ("!", "!"),
            ("~", "~"),
            (&longest, &longest),
        ] {
            assert_eq!(parse(&[("x-idempotency-key", sent.as_bytes())]), Ok(Some(meant.to_owned())), "{sent}");
        }
    }

    #[test]
    fn refused_forms_are_refused() {
        let (too_long, ten_kilobytes) = ("k".repeat(256), "k".repeat(10 * 1024));
        let quoted_too_long = format!("\"{too_long}\"");
        for sent in [
            &b""[..],
            b"  ",
            b"\"\"",
            b"\"",
            b"\"abc",
            b"\"abc\"d",
            b"\"abc\";p=1",
            br#""a\b""#,
            br#""ab\"#,
            b"inner blank",
            b"\"inner blank\"",
            b"one, two",
            b"tab\there",
            b"caf\xe9",
            "é".as_bytes(),
            too_long.as_bytes(),
            quoted_too_long.as_bytes(),
            ten_kilobytes.as_bytes(),
        ] {
            assert_eq!(parse(&[("x-idempotency-key", sent)]), Err(Rejection::KeyInvalid), "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn both_headers_may_carry_the_same_key_but_not_two() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&[("idempotency-key", b"a")]), Ok(Some("a".to_owned())));
        assert_eq!(parse(&[("idempotency-key", b"\"a\""), ("x-idempotency-key", b"a")]), Ok(Some("a".to_owned())));
        let twice: [&[(&str, &[u8])]; 3] = [
            &[("idempotency-key", b"a"), ("x-idempotency-key", b"b")],
            &[("idempotency-key", b"a"), ("idempotency-key", b"a")],
            &[("x-idempotency-key", b"a"), ("x-idempotency-key", b"b")],
        ];
        for lines in twice {
            assert_eq!(parse(lines), Err(Rejection::KeyAmbiguous), "{lines:?}");
        }
    }
}
