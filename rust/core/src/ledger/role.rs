//! What a handle on a store may do besides reading, and the locks that it holds for it.

use std::fs::File;
use std::path::Path;

use super::files::{Hold, lock, sibling};
use crate::{Error, Result};

/// A role, which ends when it is dropped, or with the process.
#[derive(Debug)]
pub(super) enum Role {
    /// Nothing: any number of readers, at any time.
    Reader,
    /// Everything, alone.
    Writer { _lock: File },
    /// To lease and record draws, beside other samplers.
    Sampler { name: String, _locks: [File; 2] },
    /// To write down what people say, beside anybody. It holds no lock: its two tables are written a moment at a time,
    /// and nobody else writes them or numbers rows by them.
    Annotator,
}

impl Role {
    pub(super) fn writer(path: &Path) -> Result<Self> {
        let lock = lock(path, Hold::Alone)?;
        Ok(Role::Writer { _lock: lock })
    }

    /// The run's lock is shared among samplers, which keeps a writer out; the lock of the name is this sampler's own.
    pub(super) fn sampler(path: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        let run = lock(path, Hold::Shared)?;
        let own = lock(&sibling(path, &format!(".sampler-{name}")), Hold::Alone).map_err(|error| match error {
            Error::Locked { .. } => Error::Conflict(format!(
                "a sampler named {name:?} is at work on {}; give this one another name",
                path.display()
            )),
            other => other,
        })?;
        Ok(Role::Sampler {
            name: name.into(),
            _locks: [run, own],
        })
    }

    /// The name of a sampler.
    pub(super) fn sampler_name(&self) -> Option<&str> {
        match self {
            Role::Sampler { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// The name becomes part of a file's.
fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{name:?} is no name for a sampler: letters, digits, '.', '-' and '_', at most 64"
    )))
}
