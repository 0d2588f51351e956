//! The header names that a record keeps as one byte.

use http::{HeaderName, header};

/// One table, two directions. Codes are persisted: a line may be added at the end, none may change or go.
macro_rules! names {
    ($($code:literal $name:expr, $text:literal;)*) => {
        /// The code of a common name.
        pub(crate) fn code(name: &HeaderName) -> Option<u8> {
            match name.as_str() {
                $($text => Some($code),)*
                _ => None,
            }
        }

        /// The name behind a code.
        pub(crate) fn name(code: u8) -> Option<HeaderName> {
            match code {
                $($code => Some($name),)*
                _ => None,
            }
        }

        #[cfg(test)]
        const ALL: &[(u8, &str)] = &[$(($code, $text)),*];
    };
}

names! {
    1 header::CONTENT_TYPE, "content-type";
    2 header::CONTENT_LENGTH, "content-length";
    3 header::LOCATION, "location";
    4 header::CACHE_CONTROL, "cache-control";
    5 header::ETAG, "etag";
    6 header::LAST_MODIFIED, "last-modified";
    7 header::VARY, "vary";
    8 header::LINK, "link";
    9 header::CONTENT_ENCODING, "content-encoding";
    10 header::CONTENT_LANGUAGE, "content-language";
    11 header::CONTENT_LOCATION, "content-location";
    12 header::CONTENT_DISPOSITION, "content-disposition";
    13 header::CONTENT_RANGE, "content-range";
    14 header::ACCEPT_RANGES, "accept-ranges";
    15 header::ALLOW, "allow";
    16 header::AGE, "age";
    17 header::EXPIRES, "expires";
    18 header::PRAGMA, "pragma";
    19 header::SERVER, "server";
    20 header::SET_COOKIE, "set-cookie";
    21 header::RETRY_AFTER, "retry-after";
    22 header::VIA, "via";
    23 header::ACCESS_CONTROL_ALLOW_ORIGIN, "access-control-allow-origin";
    24 header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "access-control-allow-credentials";
    25 header::ACCESS_CONTROL_ALLOW_HEADERS, "access-control-allow-headers";
    26 header::ACCESS_CONTROL_ALLOW_METHODS, "access-control-allow-methods";
    27 header::ACCESS_CONTROL_EXPOSE_HEADERS, "access-control-expose-headers";
    28 header::ACCESS_CONTROL_MAX_AGE, "access-control-max-age";
    29 header::STRICT_TRANSPORT_SECURITY, "strict-transport-security";
    30 header::CONTENT_SECURITY_POLICY, "content-security-policy";
    31 header::X_CONTENT_TYPE_OPTIONS, "x-content-type-options";
    32 header::X_FRAME_OPTIONS, "x-frame-options";
    33 header::X_XSS_PROTECTION, "x-xss-protection";
    34 header::REFERRER_POLICY, "referrer-policy";
    35 HeaderName::from_static("x-request-id"), "x-request-id";
    36 HeaderName::from_static("grpc-status"), "grpc-status";
    37 HeaderName::from_static("grpc-message"), "grpc-message";
    38 HeaderName::from_static("grpc-encoding"), "grpc-encoding";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_each_others_inverse() {
        for &(number, text) in ALL {
            let found = name(number).unwrap();
            assert_eq!(found, text);
            assert_eq!(code(&found), Some(number));
            assert!((1..0x80).contains(&number), "bit 7 marks a sensitive value");
        }
        assert_eq!(ALL.len(), 38);
        assert_eq!(name(0), None);
        assert_eq!(name(39), None);
    }
}
