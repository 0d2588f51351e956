//! [`Token`]: who holds a claim.

use std::fmt;

use crate::key::write_hex;

/// Names the holder of a claim: 128 random bits, made by the claimer, one per run.
///
/// Every retry of a command carries the same token, so that a claim whose reply was lost is recognised. `Debug` prints
/// the first eight hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; Self::LEN]);

impl Token {
    /// Length of a token in bytes.
    pub const LEN: usize = 16;

    /// A fresh token from the thread's cryptographically secure generator, which the operating system seeds.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// A token from bytes that [`as_bytes`](Self::as_bytes) returned.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of this token: what a backend stores and compares.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(")?;
        write_hex(&self.0[..4], f)?;
        f.write_str("..)")
    }
}
