//! Connections to a store: one that writes, one that cannot.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::files::sibling;
use crate::{Error, Result};

/// How long to wait for another connection of this machine, which holds a lock for moments only.
const PATIENCE: Duration = Duration::from_secs(10);

/// No `SQLITE_OPEN_URI`, and only absolute paths: a file named `file:x?mode=memory` is just a file. The lock that
/// serialises callers is the caller's, hence no mutex in SQLite.
pub(super) fn writing_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Leaves a store that needs no file beside it, in the mode in which readers do not wait for the writer.
pub(super) fn seal(conn: Connection) -> Result<()> {
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.close().map_err(|(_, error)| error.into())
}

pub(super) fn connect_writer(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, writing_flags())?;
    // SQLite opens what it may not write for reading, and would refuse only the first write.
    if conn.is_readonly("main")? {
        return Err(no_access(path, "is not writable"));
    }
    harden(&conn)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    // FULL: a commit returns after its log is on disk, so it survives a power cut too.
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // INSERT OR REPLACE removes rows: with this, the triggers that refuse removal see it.
    conn.pragma_update(None, "recursive_triggers", true)?;
    Ok(conn)
}

pub(super) fn connect_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match reach(Connection::open_with_flags(path, flags)) {
        Err(error) if wants_write_access(&error) => {
            // Reading a store in this mode takes two files beside it. In a folder that cannot be written and has no
            // log, nothing is missing from the file itself: say so to SQLite.
            let log = sibling(path, "-wal");
            if log.metadata().is_ok_and(|log| log.len() > 0) {
                let why = "cannot be read with its log in a folder without write access; copy both elsewhere";
                return Err(no_access(path, why));
            }
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            reach(Connection::open_with_flags(immutable_uri(path), flags))
        }
        other => other,
    }
}

/// The first statement is what really opens the file.
fn reach(conn: rusqlite::Result<Connection>) -> Result<Connection> {
    let conn = conn?;
    harden(&conn)?;
    lines(&conn, "SELECT name FROM sqlite_schema LIMIT 1")?;
    Ok(conn)
}

/// A store may come from somebody else: nothing in its schema is trusted to call functions.
fn harden(conn: &Connection) -> Result<()> {
    conn.busy_timeout(PATIENCE)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(conn.pragma_update(None, "cell_size_check", true)?)
}

fn no_access(path: &Path, why: &str) -> Error {
    let message = format!("{} {why}", path.display());
    Error::Io(io::Error::new(ErrorKind::PermissionDenied, message))
}

fn wants_write_access(error: &Error) -> bool {
    let Error::Sqlite(error) = error else {
        return false;
    };
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
    )
}

fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?immutable=1"
}

/// The first column of every row, as text.
pub(super) fn lines(conn: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare(sql)?;
    let found = statement.query_map([], |row| row.get(0))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
