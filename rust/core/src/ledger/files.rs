//! What happens to files around SQLite: the lock, building a store so that it appears whole or not at all, and telling
//! a full disk or a damaged file from other failures. Knows nothing of tables.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

pub(super) use crate::error::about;
use crate::error::is_full;
use crate::{Error, Result};

/// `run.sqlite` and `-wal` give `run.sqlite-wal`.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// How many may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// One.
    Alone,
    /// Any number, but none beside one that holds it alone.
    Shared,
}

/// Holds `<path>.lock` for this process.
///
/// The kernel lets go of it when the last process that inherited the handle ends, however it ends. The file itself
/// stays: removing it would let two processes each hold a lock of that name.
pub(super) fn lock(path: &Path, hold: Hold) -> Result<File> {
    let name = sibling(path, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&name)
        .map_err(about(&name))?;
    let held = match hold {
        Hold::Alone => file.try_lock(),
        Hold::Shared => file.try_lock_shared(),
    };
    match held {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.into() }),
        Err(TryLockError::Error(error)) => Err(about(&name)(error)),
    }
}

/// Lets `build` write a file under another name and gives it its own once it is whole and on disk.
///
/// Whoever is killed in between leaves at most the half-built file, which the next attempt removes. Returns the lock
/// under which it was done.
pub(super) fn build(path: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<File> {
    refuse_existing(path)?;
    let lock = lock(path, Hold::Alone)?;
    refuse_existing(path)?;
    let temp = sibling(path, ".new");
    remove_store(&temp)?;
    let built = build(&temp).and_then(|()| publish(&temp, path));
    if built.is_err() {
        // The error that led here says more than one from cleaning up.
        let _ = remove_store(&temp);
    }
    built.map(|()| lock)
}

fn refuse_existing(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::Conflict(format!(
            "{} already exists; open the run that is there, or choose another output folder",
            path.display()
        )));
    }
    // A write-ahead log without its store would be replayed into the new one.
    let log = sibling(path, "-wal");
    if log.symlink_metadata().is_ok() {
        return Err(Error::Conflict(format!(
            "{} is there without its store; put the store back beside it, or choose another output folder",
            log.display()
        )));
    }
    Ok(())
}

fn remove_store(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let name = sibling(path, suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(about(&name)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn publish(temp: &Path, path: &Path) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(temp)
        .and_then(|file| file.sync_all())
        .map_err(about(temp))?;
    std::fs::rename(temp, path).map_err(about(path))?;
    sync_folder(path).map_err(about(path))
}

/// Makes a rename in the folder of `path` durable. Windows has no handle on a folder to do that with.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Says what an error of SQLite means for the store at `path`.
pub(super) fn explain(path: &Path, error: Error) -> Error {
    let Error::Sqlite(inner) = error else {
        return error;
    };
    let path = path.to_owned();
    match inner.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Damaged {
            path,
            detail: inner.to_string(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked { path },
        Some(ErrorCode::DiskFull) => Error::DiskFull { path },
        // A write that hits a quota or grows the shared index on a full disk arrives as a plain I/O error.
        Some(ErrorCode::SystemIoFailure) if has_no_room(&path) => Error::DiskFull { path },
        Some(ErrorCode::SystemIoFailure) => Error::Refused {
            path,
            detail: inner.to_string(),
        },
        _ => Error::Sqlite(inner),
    }
}

/// Whether the folder of the store refuses a few more pages.
fn has_no_room(path: &Path) -> bool {
    let probe = sibling(path, ".probe");
    let full = File::create(&probe)
        .and_then(|mut file| file.write_all(&[0; 1 << 16]).and_then(|()| file.sync_all()))
        .is_err_and(|error| is_full(&error));
    let _ = std::fs::remove_file(&probe);
    full
}
