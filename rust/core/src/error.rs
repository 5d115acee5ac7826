//! The one error type of the crate. Each kind becomes exactly one Python exception class.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What can go wrong, and what the user can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument that cannot be used; the message names it.
    #[error("{0}")]
    Invalid(String),

    /// The caller asked a long call to end (Ctrl-C); nothing was changed.
    #[error("stopped on request")]
    Stopped,

    /// A fault of this crate, never of the caller: a panic that was caught, or threads the system would not give.
    #[error("{0}")]
    Internal(String),

    /// Another process holds the run.
    #[error(
        "{} is in use by another process; wait for it to end, or choose another output folder",
        .path.display()
    )]
    Locked {
        /// The store that is held.
        path: PathBuf,
    },

    /// The store was written by another version of tso.
    #[error(
        "{} has store version {found}, this tso reads version {expected}; use the tso that wrote it, or choose another output folder",
        .path.display()
    )]
    Version {
        /// The store.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The version this crate reads and writes.
        expected: i64,
    },

    /// The file is not a healthy store.
    #[error("{} is damaged or not a run of tso ({detail}); restore a copy, or choose another output folder", .path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },

    /// The file is no index of texts, or was changed since it was written.
    #[error("{} is damaged or no index of tso ({detail}); restore a copy, or remove it and add the rows again", .path.display())]
    BadIndex {
        /// The index.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },

    /// A row that contradicts what is already recorded.
    #[error("{0}")]
    Conflict(String),

    /// The disk is full, or a quota is reached; nothing half-written stays behind.
    #[error("no space left to write {}; free some space and run again to resume", .path.display())]
    DiskFull {
        /// The store.
        path: PathBuf,
    },

    /// The operating system would not let SQLite read or write: a limit on the size of files, or a failing disk.
    #[error(
        "the system refused to read or write {} ({detail}); look at the disk and at the limit on the size of files (ulimit -f), then run again to resume",
        .path.display()
    )]
    Refused {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },

    /// The operating system refused; Python keeps its own class for the kind.
    #[error(transparent)]
    Io(#[from] std::io::Error),

    /// SQLite refused for a reason that none of the kinds above tells.
    #[error("store: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the operating system that says which file it is about.
pub(crate) fn about(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| {
        if is_full(&error) {
            return Error::DiskFull { path: path.into() };
        }
        Error::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
