//! What each version of the stored formats has left behind.
//!
//! The files were written once, from the description of the formats and not by this crate, and are never written again: a
//! change of the code that needs a change of a file is a release that forgets or misreads what is stored. A new version gets
//! a folder of its own beside `v1`, and a row in [`VERSIONS`].

#![allow(dead_code, reason = "each suite reads a part of it")]

use http::{HeaderMap, HeaderValue, StatusCode};
use tower_idempotency::Rejection;

/// A version, and all that it has left.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) number: u8,
    /// Whether this is the one that today's code writes.
    pub(crate) is_written: bool,
    /// A claim as it is in Redis.
    pub(crate) claim: &'static [u8],
    pub(crate) fixtures: [Fixture; 5],
    /// The table in PostgreSQL.
    pub(crate) migration: &'static str,
    /// Its rows: a claim, and each of the records. Each key is that of the kind's name.
    pub(crate) rows: &'static str,
    /// Keys, fingerprints and derived keys in hexadecimal digits, each behind its name.
    pub(crate) names: &'static str,
}

/// A record, by itself and in a value in Redis.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) kind: Kind,
    pub(crate) record: &'static [u8],
    pub(crate) redis: &'static [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Response,
    /// A response with trailers.
    Trailers,
    Tombstone,
    Value,
    OutcomeUnknown,
}

macro_rules! version {
    ($number:literal, $folder:literal, is_written: $is_written:literal) => {
        Version {
            number: $number,
            is_written: $is_written,
            claim: include_bytes!(concat!($folder, "/redis/claim.bin")),
            fixtures: [
                version!($folder, Kind::Response, "response.bin"),
                version!($folder, Kind::Trailers, "trailers.bin"),
                version!($folder, Kind::Tombstone, "tombstone.bin"),
                version!($folder, Kind::Value, "value.bin"),
                version!($folder, Kind::OutcomeUnknown, "outcome_unknown.bin"),
            ],
            migration: include_str!(concat!($folder, "/postgres/migration.sql")),
            rows: include_str!(concat!($folder, "/postgres/rows.sql")),
            names: include_str!(concat!($folder, "/names.txt")),
        }
    };
    ($folder:literal, $kind:expr, $file:literal) => {
        Fixture {
            kind: $kind,
            record: include_bytes!(concat!($folder, "/record/", $file)),
            redis: include_bytes!(concat!($folder, "/redis/", $file)),
        }
    };
}

pub(crate) const VERSIONS: [Version; 1] = [version!(1, "v1", is_written: true)];

/// The version after the newest: what no release has written yet.
pub(crate) const NEXT: u8 = VERSIONS[VERSIONS.len() - 1].number + 1;

/// Who claimed all of them.
pub(crate) const TOKEN: [u8; 16] =
    [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf];

/// The fingerprint of all of them: that of `POST http://example.com/payments?to=alice` with the body `{"amount":100}`.
pub(crate) const FINGERPRINT: [u8; 48] = *b"\x93\x87\x6a\xf0\x79\x73\x8e\x47\x3d\x42\xf8\xbe\x54\x22\x2d\x5b\
    \x56\x7e\x92\x4a\x61\xe5\xde\x1c\x33\x30\x25\xd5\xee\x54\xdc\xb5\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The content of the record of a value.
pub(crate) const VALUE: &[u8] = b"\0done\xff";

/// A response that was recorded: its header lines are in the order of the record.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, &'static [u8])>,
    pub(crate) body: &'static [u8],
    pub(crate) trailers: Vec<(&'static str, &'static [u8])>,
}

impl Kind {
    /// The text of the key under which this is planted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Trailers => "trailers",
            Self::Tombstone => "tombstone",
            Self::Value => "value",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// The response that is to be replayed. `None`: there is none.
    pub(crate) fn recorded(self) -> Option<Recorded> {
        Some(match self {
            Self::Response => Recorded {
                status: StatusCode::CREATED,
                headers: vec![
                    ("content-type", b"application/octet-stream"),
                    ("location", b"/payments/1"),
                    ("link", b"</a>; rel=\"next\""),
                    ("link", b"</b>; rel=\"prev\""),
                    ("x-raw", b"caf\xe9"),
                    ("set-cookie", b"session=1"), // sensitive
                    ("x-long", &[b'v'; 200]),
                ],
                body: b"\0\xff\r\nraw",
                trailers: vec![],
            },
            Self::Trailers => Recorded {
                status: StatusCode::OK,
                headers: vec![("content-type", b"text/plain")],
                body: b"streamed",
                trailers: vec![("grpc-status", b"0"), ("x-sum", b"a"), ("x-sum", b"b")],
            },
            Self::Tombstone | Self::Value | Self::OutcomeUnknown => return None,
        })
    }

    /// The problem that a duplicate is told of where there is no response.
    pub(crate) fn rejection(self) -> Rejection {
        match self {
            Self::OutcomeUnknown => Rejection::OutcomeUnknown,
            _ => Rejection::NotKept,
        }
    }
}

impl Recorded {
    /// This is what a client got. Servers add headers of their own.
    #[track_caller]
    pub(crate) fn assert_is(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], trailers: Option<&HeaderMap>) {
        assert_eq!(status, self.status);
        assert_eq!(headers["idempotent-replayed"], "true");
        assert_lines(&self.headers, headers);
        assert_eq!(body, self.body);
        let none = HeaderMap::new();
        assert_lines(&self.trailers, trailers.unwrap_or(&none));
        assert_eq!(trailers.map_or(0, HeaderMap::len), self.trailers.len());
    }
}

#[track_caller]
fn assert_lines(expected: &[(&str, &[u8])], found: &HeaderMap) {
    for (name, _) in expected {
        let expected: Vec<_> = expected.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect();
        assert_eq!(found.get_all(*name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>(), expected, "{name}");
    }
}
