//! The tables of a store: laying them down, recognising a store by its header, and their column names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::Path;

use rusqlite::Connection;

use super::files::{about, sibling};
use crate::{Error, Result};

/// The version of `schema.sql`, kept in the file as `user_version`. Raise it with every change to the tables.
pub const VERSION: i64 = 4;

/// Marks a SQLite file as a run of tso: the letters `TSO1`.
pub const APPLICATION_ID: i64 = 0x5453_4f31;

const SCHEMA: &str = include_str!("schema.sql");

/// Table names and their column names.
pub(super) type Tables = BTreeMap<String, Vec<String>>;

/// Turns an empty database into a store.
pub(super) fn lay_down(conn: &mut Connection, meta: &BTreeMap<String, String>) -> Result<()> {
    let transaction = conn.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    for table in tables(&transaction)?.keys().filter(|table| *table != "leases") {
        transaction.execute_batch(&guard(table))?;
    }
    for entry in meta {
        transaction.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", entry)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// A finished row is never changed or removed, not even by another program that opens the file.
fn guard(table: &str) -> String {
    ["UPDATE", "DELETE"]
        .map(|verb| {
            format!(
                "CREATE TRIGGER {table}_refuses_{} BEFORE {verb} ON {table}
                 BEGIN SELECT raise(ABORT, 'a finished row of {table} is never changed'); END;",
                verb.to_lowercase()
            )
        })
        .concat()
}

/// Reads the tables and columns that the file has.
pub(super) fn tables(conn: &Connection) -> Result<Tables> {
    let mut tables = Tables::new();
    let mut statement = conn.prepare(
        "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' ORDER BY t.name, c.cid",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let columns = tables.entry(row.get(0)?).or_default();
        columns.push(row.get(1)?);
    }
    Ok(tables)
}

/// Refuses whatever is not a store of this version, by its first 100 bytes and without touching anything.
///
/// The header in the file itself is always up to date: a store is given its name only after it is complete there.
pub(super) fn inspect(path: &Path) -> Result<()> {
    let damaged = |detail: &str| Error::Damaged {
        path: path.into(),
        detail: detail.into(),
    };
    let kind = path.metadata().map_err(about(path))?;
    if kind.is_dir() {
        return Err(damaged("it is a folder"));
    }
    if !kind.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    let mut header = [0; 100];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && kind.len() == 0 => {
            return Err(damaged("the file is empty"));
        }
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(damaged("the file is cut off"));
        }
        other => other.map_err(about(path))?,
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(damaged("it is no SQLite file"));
    }
    if big_endian(&header, 68..72) != APPLICATION_ID {
        return Err(damaged("it is an SQLite file of another program"));
    }
    let found = big_endian(&header, 60..64);
    if found != VERSION {
        return Err(Error::Version {
            path: path.into(),
            found,
            expected: VERSION,
        });
    }
    // SQLite would take missing bytes of the last page for zeros. With a log the file may rightly be shorter. The log is
    // looked at before the length: a writer that removes its log has completed the file.
    let has_log = sibling(path, "-wal").metadata().is_ok_and(|log| log.len() > 0);
    let length = path.metadata().map_err(about(path))?.len();
    if !has_log && length < stated_length(&header) {
        return Err(damaged("the file is cut off"));
    }
    Ok(())
}

/// Page size times number of pages. A page size of 65536 is written as 1.
fn stated_length(header: &[u8; 100]) -> u64 {
    let page = match big_endian(header, 16..18) {
        1 => 65536,
        size => size.cast_unsigned(),
    };
    page * big_endian(header, 28..32).cast_unsigned()
}

fn big_endian(header: &[u8; 100], at: Range<usize>) -> i64 {
    header[at].iter().fold(0, |value, byte| (value << 8) | i64::from(*byte))
}
