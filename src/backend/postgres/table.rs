//! [`Table`]: where claims and records are kept.

/// The longest name of a table. PostgreSQL cuts names after 63 bytes, and the index has a longer one.
const LONGEST: usize = 63 - "_expires_at".len();

/// The name of a table, and that of its index, quoted.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    index: String,
    index_path: String,
}

impl Table {
    /// The table `name` or `schema.name`.
    #[track_caller]
    pub(super) fn new(name: &str) -> Self {
        let (schema, table) = name.split_once('.').map_or((None, name), |(schema, table)| (Some(schema), table));
        for part in schema.into_iter().chain([table]) {
            assert!(is_name(part), "{name:?} is no name of a table: letters, digits and _, with a schema or without");
        }
        assert!(table.len() <= LONGEST, "the name {table:?} is too long: at most {LONGEST} bytes");
        let schema = schema.map(|schema| format!("\"{schema}\".")).unwrap_or_default();
        let index = format!("\"{table}_expires_at\"");
        Self { name: format!("{schema}\"{table}\""), index_path: format!("{schema}{index}"), index }
    }

    /// As statements name it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As the statement that creates its index names it, which is in the schema of the table.
    pub(super) fn index(&self) -> &str {
        &self.index
    }

    /// The name of the index, with the schema.
    pub(super) fn index_path(&self) -> &str {
        &self.index_path
    }
}

/// Nothing that would end a quoted name is part of one.
fn is_name(part: &str) -> bool {
    let begins = part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    begins && part.len() <= 63 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(Table::new("idempotency").name(), "\"idempotency\"");
        assert_eq!(Table::new("Billing._keys2").name(), "\"Billing\".\"_keys2\"");
        assert_eq!(Table::new("billing.keys").index(), "\"keys_expires_at\"");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(LONGEST + 1);
        for name in
            ["", ".", "a.", ".b", "a.b.c", "2a", "a b", "a\"b", "a;b", "a'b", "a-b", "tä", "a\0", "\"a\"", &long]
        {
            assert!(catch_unwind(|| Table::new(name)).is_err(), "{name:?}");
        }
        Table::new(&long[1..]);
    }
}
