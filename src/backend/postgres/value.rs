//! What a row says.

use bytes::Bytes;
use sqlx::{Error, Row, postgres::PgRow};

use crate::{BackendError, Entry, Fingerprint, Record, Token};

/// A row as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) token: Token,
    pub(super) entry: Entry,
}

/// Reads the columns token, fingerprint and record.
pub(super) fn decode(row: &PgRow) -> Result<Stored, BackendError> {
    let token = Token::from_bytes(column(row, "token").map_err(BackendError::corrupt)?);
    let record: Option<&[u8]> = row.try_get("record").map_err(BackendError::corrupt)?;
    let entry = match record {
        None => {
            let fingerprint = column(row, "fingerprint").map_err(BackendError::corrupt)?;
            Entry::InProgress { fingerprint: Fingerprint::from_bytes(fingerprint) }
        }
        // The one copy: what sqlx read from the socket cannot be had.
        Some(record) => {
            let record = Record::from_bytes(Bytes::copy_from_slice(record)).map_err(BackendError::corrupt)?;
            Entry::Completed(record)
        }
    };
    Ok(Stored { token, entry })
}

fn column<const LENGTH: usize>(row: &PgRow, name: &str) -> Result<[u8; LENGTH], Error> {
    let bytes: &[u8] = row.try_get(name)?;
    bytes.try_into().map_err(|error| Error::ColumnDecode { index: name.to_owned(), source: Box::new(error) })
}
