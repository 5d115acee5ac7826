//! The store as an open file: creating, opening, copying and checking it, and the ways into it: reading, writing, and
//! sampling beside others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::connect::{connect_reader, connect_writer, lines, seal, writing_flags};
use super::files::{build, explain};
use super::held::forget;
use super::role::Role;
use super::rows::commit;
use super::schema::{Tables, inspect, lay_down, tables};
use super::work::Work;
use crate::{Error, Result};

/// One run's store, open. Either one process writes, or any number of samplers record the draws of a plan; any number
/// read at the same time.
///
/// Reads go through a connection of their own that cannot write. Fields are dropped in this order: the writing
/// connection closes after the reading one, so that it folds the log into the file, and the locks go last.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    process: u32,
    tables: Tables,
    pub(super) work: Work,
    reader: Connection,
    writer: Option<Connection>,
    role: Role,
}

impl Ledger {
    /// Makes a new store with these entries in `meta` and opens it for writing.
    ///
    /// # Errors
    /// `Conflict` when something of that name exists, `Locked` while another process makes it, `DiskFull`, `Io`.
    pub fn create(path: &Path, meta: &BTreeMap<String, String>) -> Result<Self> {
        let path = std::path::absolute(path)?;
        let lock = build(&path, |temp| {
            let flags = writing_flags() | OpenFlags::SQLITE_OPEN_CREATE;
            Connection::open_with_flags(temp, flags)
                .map_err(Error::from)
                .and_then(|mut conn| {
                    lay_down(&mut conn, meta)?;
                    seal(conn)
                })
                .map_err(|error| explain(&path, error))
        })?;
        Self::attach(path, Role::Writer { _lock: lock })
    }

    /// Opens a store, for writing unless `read_only`.
    ///
    /// # Errors
    /// `Io` when there is none, `Damaged` when it is no healthy store, `Version` when another version wrote it,
    /// `Locked` when another process writes it.
    pub fn open(path: &Path, read_only: bool) -> Result<Self> {
        let path = std::path::absolute(path)?;
        inspect(&path)?;
        let role = if read_only { Role::Reader } else { Role::writer(&path)? };
        Self::attach(path, role)
    }

    /// Opens a store to lease and record draws beside other samplers of this machine; nobody else writes meanwhile.
    ///
    /// The name is this process's own: two living samplers of one name are refused, and leases that an ended one left
    /// behind are free at once. All processes have to be on one machine, for SQLite's log is shared through its memory.
    ///
    /// # Errors
    /// `Invalid` for a name that is none, `Conflict` when a sampler of that name is at work, the rest as for
    /// [`Ledger::open`].
    pub fn join(path: &Path, sampler: &str) -> Result<Self> {
        let path = std::path::absolute(path)?;
        inspect(&path)?;
        let role = Role::sampler(&path, sampler)?;
        let mut ledger = Self::attach(path, role)?;
        ledger.sampling(|conn| forget(conn, sampler))?;
        Ok(ledger)
    }

    /// Opens a store to assign pairs to people and record what they say, also while a run or samplers are at work on it.
    ///
    /// # Errors
    /// As for [`Ledger::open`], but never `Locked`.
    pub fn annotate(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        inspect(&path)?;
        Self::attach(path, Role::Annotator)
    }

    fn attach(path: PathBuf, role: Role) -> Result<Self> {
        let connect = || {
            // The writer first: it replays what a killed process left in the log.
            let writer = match role {
                Role::Reader => None,
                _ => Some(connect_writer(&path)?),
            };
            let reader = connect_reader(&path)?;
            Ok((tables(&reader)?, reader, writer))
        };
        let (tables, reader, writer) = connect().map_err(|error| explain(&path, error))?;
        let ledger = Ledger {
            process: std::process::id(),
            tables,
            work: Work::default(),
            reader,
            writer,
            role,
            path,
        };
        ledger.require_health()?;
        Ok(ledger)
    }

    /// The store's file, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this handle cannot write.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// Copies the store as it stands at this moment to a new file of its own.
    ///
    /// # Errors
    /// `Conflict` when something of that name exists, `DiskFull`, `Io`.
    pub fn fork(&self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path)?;
        self.reading(|_| Ok(()))?;
        let copy = |temp: &Path| {
            let name = temp
                .to_str()
                .ok_or_else(|| Error::Invalid(format!("{} is not UTF-8", temp.display())))?;
            self.reader.execute("VACUUM INTO ?1", [name])?;
            seal(Connection::open_with_flags(temp, writing_flags())?)
        };
        build(&path, |temp| copy(temp).map_err(|error| explain(&path, error)))?;
        Ok(())
    }

    /// Everything that is wrong with the file, one line each: its structure, its rules, its references.
    ///
    /// # Errors
    /// When the check itself cannot be carried out.
    pub fn check(&self) -> Result<Vec<String>> {
        self.reading(|conn| {
            let mut found = lines(conn, "PRAGMA integrity_check")?;
            found.retain(|line| line != "ok");
            found.extend(lines(
                conn,
                r#"SELECT "table" || ', row ' || rowid || ': refers to a missing row of ' || parent
                   FROM pragma_foreign_key_check"#,
            )?);
            Ok(found)
        })
    }

    fn require_health(&self) -> Result<()> {
        let found = self.reading(|conn| lines(conn, "PRAGMA quick_check(1)"))?;
        match found.iter().find(|line| *line != "ok") {
            None => Ok(()),
            Some(detail) => Err(Error::Damaged {
                path: self.path.clone(),
                detail: detail.clone(),
            }),
        }
    }

    /// Runs `work` on a connection that cannot write.
    pub(super) fn reading<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.require_process()?;
        work(&self.reader).map_err(|error| explain(&self.path, error))
    }

    /// Runs `work` in one transaction of the one writer; any error takes back all of it.
    pub(super) fn writing<T>(&mut self, work: impl FnOnce(&Connection, &Tables) -> Result<T>) -> Result<T> {
        if self.sampler().is_some() {
            return Err(Error::Invalid(format!(
                "{} was joined for sampling: it may lease and record draws here, and read",
                self.path.display()
            )));
        }
        self.refuse_annotator()?;
        self.transact(work)
    }

    /// Runs `work` in one transaction of the one writer or of a sampler.
    pub(super) fn sampling<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.refuse_annotator()?;
        self.transact(|conn, _| work(conn))
    }

    /// Runs `work` in one transaction of somebody who writes down what people say.
    pub(super) fn annotating<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        if !matches!(self.role, Role::Annotator) {
            return Err(Error::Invalid(format!(
                "{} was not opened for people's verdicts; open it with annotate",
                self.path.display()
            )));
        }
        self.transact(|conn, _| work(conn))
    }

    fn refuse_annotator(&self) -> Result<()> {
        if matches!(self.role, Role::Annotator) {
            return Err(Error::Invalid(format!(
                "{} was opened for people's verdicts, and for nothing else",
                self.path.display()
            )));
        }
        Ok(())
    }

    fn transact<T>(&mut self, work: impl FnOnce(&Connection, &Tables) -> Result<T>) -> Result<T> {
        self.require_process()?;
        let Some(conn) = self.writer.as_mut() else {
            return Err(Error::Invalid(format!(
                "{} was opened for reading only",
                self.path.display()
            )));
        };
        let run = || {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Rows of one unit may name one another in any order; SQLite looks at the commit.
            transaction.pragma_update(None, "defer_foreign_keys", true)?;
            let value = work(&transaction, &self.tables)?;
            commit(&transaction)?;
            Ok(value)
        };
        run().map_err(|error| explain(&self.path, error))
    }

    /// The name under which the store was joined.
    #[must_use]
    pub fn sampler(&self) -> Option<&str> {
        self.role.sampler_name()
    }

    /// SQLite's locks do not survive a fork: a forked child that wrote would break the store.
    fn require_process(&self) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{} was opened by the parent process; open it again in this one",
            self.path.display()
        )))
    }
}
