//! Opening the file: create it whole, or check that it is a healthy store of this version.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::{Error, Result};

/// Written into the file's header, so that other programs and we ourselves can tell it ("TSO1").
const APPLICATION_ID: i64 = 0x5453_4f31;
/// Raised with every change of schema.sql.
pub const VERSION: i64 = 1;
const SQL: &str = include_str!("schema.sql");

/// Table name -> column names.
pub type Tables = BTreeMap<String, Vec<String>>;

/// Take the run for this process; the operating system gives it back however the process ends.
pub fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(err)) => Err(err.into()),
    }
}

/// Make the store at `path`: complete under another name first, then renamed.
pub fn create(path: &Path, meta: &BTreeMap<String, String>) -> Result<()> {
    if path.exists() {
        return Err(Error::Conflict(format!("{} exists already", path.display())));
    }
    let part = beside(path);
    remove(&part)?;
    let fill = || -> rusqlite::Result<()> {
        let mut conn = Connection::open(&part)?;
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
        conn.pragma_update(None, "user_version", VERSION)?;
        let tx = conn.transaction()?;
        tx.execute_batch(SQL)?;
        for (key, value) in meta {
            tx.execute("INSERT INTO meta (key, value) VALUES (?, ?)", (key, value))?;
        }
        tx.execute_batch(&triggers(&tx)?)?;
        tx.commit()?;
        conn.close().map_err(|(_, err)| err)
    };
    fill().map_err(|err| from_sqlite(path, err))?;
    publish(&part, path)
}

/// Sync `part` and give it its name.
pub fn publish(part: &Path, path: &Path) -> Result<()> {
    File::open(part)?.sync_all()?;
    std::fs::rename(part, path)?;
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        // Windows cannot open a folder to sync it, and does not need it.
        if let Ok(handle) = File::open(folder) {
            handle.sync_all()?;
        }
    }
    Ok(())
}

/// The unfinished twin of `path` in the same folder.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Remove a file that may not be there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
        _ => Ok(()),
    }
}

/// Open and check a store.
pub fn open(path: &Path, read_only: bool) -> Result<Connection> {
    check_header(path)?;
    let conn = connect(path, read_only).map_err(|err| from_sqlite(path, err))?;
    let number = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let app = number("application_id").map_err(|err| from_sqlite(path, err))?;
    if app != APPLICATION_ID {
        return Err(damaged(path, "an SQLite file of another program"));
    }
    let found = number("user_version").map_err(|err| from_sqlite(path, err))?;
    if found != VERSION {
        return Err(Error::Version {
            path: path.to_owned(),
            found,
            expected: VERSION,
        });
    }
    let health: String = conn
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(|err| from_sqlite(path, err))?;
    if health != "ok" {
        return Err(damaged(path, &health));
    }
    Ok(conn)
}

fn connect(path: &Path, read_only: bool) -> rusqlite::Result<Connection> {
    let common = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    if !read_only {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | common)?;
        // WAL: readers go on while we write. FULL: a commit survives a power cut, not only a kill.
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", "full")?;
        conn.pragma_update(None, "foreign_keys", true)?;
        return Ok(conn);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | common;
    let usable = |conn: Connection| {
        conn.pragma_query_value(None, "schema_version", |_| Ok(()))
            .map(|()| conn)
    };
    Connection::open_with_flags(path, flags)
        .and_then(usable)
        .or_else(|first| {
            // A folder that cannot be written has no room for WAL's shared memory; without a writer none is needed.
            let text = path
                .to_string_lossy()
                .replace('%', "%25")
                .replace('?', "%3f")
                .replace('#', "%23");
            let immutable = Connection::open_with_flags(format!("file:{text}?immutable=1"), flags).and_then(usable);
            immutable.map_err(|_| first)
        })
}

fn check_header(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(damaged(path, "a folder"));
    }
    file.take(16).read_to_end(&mut head)?;
    if head != *b"SQLite format 3\0" {
        return Err(damaged(
            path,
            if head.is_empty() {
                "an empty file"
            } else {
                "not an SQLite file"
            },
        ));
    }
    Ok(())
}

/// Tables and columns as the file has them.
pub fn tables(conn: &Connection) -> rusqlite::Result<Tables> {
    let mut names = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let mut tables = Tables::new();
    for name in names.query_map([], |row| row.get::<_, String>(0))? {
        let name = name?;
        let mut columns = conn.prepare("SELECT name FROM pragma_table_info(?)")?;
        let found = columns
            .query_map([&name], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        tables.insert(name, found);
    }
    Ok(tables)
}

/// A finished row is never changed or removed, by us or by anyone with an SQLite shell.
fn triggers(conn: &Connection) -> rusqlite::Result<String> {
    let one = |table: &String, verb: &str| {
        format!(
            "CREATE TRIGGER no_{v}_{table} BEFORE {verb} ON {table} \
             BEGIN SELECT RAISE(ABORT, 'a finished row is never changed'); END;",
            v = verb.to_lowercase()
        )
    };
    Ok(tables(conn)?
        .keys()
        .map(|t| one(t, "UPDATE") + &one(t, "DELETE"))
        .collect())
}

fn damaged(path: &Path, detail: &str) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        detail: detail.to_owned(),
    }
}

/// What SQLite said, as one of our kinds.
pub fn from_sqlite(path: &Path, err: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Code;
    let rusqlite::Error::SqliteFailure(failure, message) = &err else {
        return Error::Sqlite(err);
    };
    let detail = message.clone().unwrap_or_else(|| failure.to_string());
    match failure.code {
        Code::DiskFull => Error::DiskFull { path: path.to_owned() },
        // WAL's shared memory is the first to feel a full disk, and says so as an I/O error.
        Code::SystemIoFailure if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
            Error::DiskFull { path: path.to_owned() }
        }
        Code::NotADatabase | Code::DatabaseCorrupt => damaged(path, &detail),
        Code::DatabaseBusy | Code::DatabaseLocked => Error::Locked { path: path.to_owned() },
        Code::ConstraintViolation => Error::Conflict(format!("the store refuses a row: {detail}")),
        _ => Error::Sqlite(err),
    }
}
