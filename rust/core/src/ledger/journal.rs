//! The durable journal of a run: rows go in a unit at a time, and a unit is there whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, params_from_iter};

use super::plan::{self, Candidate, CellPlan, Draw, PlanKey};
use super::schema::{self, Tables, from_sqlite};
use crate::{Error, Result};

/// Rows for one table: column names, and values in that order.
#[derive(Debug, Clone, Default)]
pub struct RowSet {
    /// The columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
}

/// Where a unit stands in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The iteration.
    pub iteration: i64,
    /// The stage.
    pub stage: String,
    /// Which of the stage's units.
    pub unit: i64,
    /// What the stage wants to find again (JSON).
    pub info: String,
}

/// Column names and rows of an answer.
pub type Table = (Vec<String>, Vec<Vec<Value>>);

/// One run's store. The writer holds the run until it is dropped; readers hold nothing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    conn: Connection,
    tables: Tables,
    _lock: Option<File>,
}

impl Journal {
    /// Make a new store and open it for writing.
    pub fn create(path: &Path, meta: &BTreeMap<String, String>) -> Result<Self> {
        let lock = schema::lock(path)?;
        schema::create(path, meta)?;
        Self::opened(path, false, Some(lock))
    }

    /// Open a store; for writing, refuse while another process does.
    pub fn open(path: &Path, read_only: bool) -> Result<Self> {
        // Looked at first: taking the lock would leave a file behind where there is no store.
        std::fs::metadata(path)?;
        let lock = if read_only { None } else { Some(schema::lock(path)?) };
        Self::opened(path, read_only, lock)
    }

    fn opened(path: &Path, read_only: bool, lock: Option<File>) -> Result<Self> {
        let conn = schema::open(path, read_only)?;
        let tables = schema::tables(&conn).map_err(|err| from_sqlite(path, err))?;
        Ok(Self {
            path: path.to_owned(),
            conn,
            tables,
            _lock: lock,
        })
    }

    /// Write the rows of a unit and the unit itself: all, or nothing.
    pub fn write(&mut self, unit: &Unit, rows: &BTreeMap<String, RowSet>) -> Result<()> {
        for (table, set) in rows {
            self.check_rows(table, set)?;
        }
        let path = self.path.clone();
        let tx = self.conn.transaction().map_err(|err| from_sqlite(&path, err))?;
        claim(&path, &tx, unit)?;
        // Foreign keys are looked at when the transaction ends, so tables may come in any order.
        let fill = || -> rusqlite::Result<()> {
            tx.pragma_update(None, "defer_foreign_keys", true)?;
            for (table, set) in rows {
                let marks = vec!["?"; set.columns.len()].join(", ");
                let sql = format!("INSERT INTO {table} ({}) VALUES ({marks})", set.columns.join(", "));
                let mut statement = tx.prepare_cached(&sql)?;
                for row in &set.rows {
                    statement.execute(params_from_iter(row))?;
                }
            }
            Ok(())
        };
        fill().map_err(|err| from_sqlite(&path, err))?;
        tx.commit().map_err(|err| from_sqlite(&path, err))
    }

    fn check_rows(&self, table: &str, set: &RowSet) -> Result<()> {
        let Some(columns) = self.tables.get(table).filter(|_| table != "units") else {
            return Err(Error::Invalid(format!("the store has no table {table:?} to write to")));
        };
        if let Some(name) = set.columns.iter().find(|c| !columns.contains(c)) {
            return Err(Error::Invalid(format!(
                "table {table:?} has no column {name:?}; it has {}",
                columns.join(", ")
            )));
        }
        for (i, row) in set.rows.iter().enumerate() {
            if row.len() != set.columns.len() {
                return Err(Error::Invalid(format!(
                    "{table} row {i}: {} values for {} columns",
                    row.len(),
                    set.columns.len()
                )));
            }
            if let Some(at) = row.iter().position(|v| matches!(v, Value::Real(x) if x.is_nan())) {
                return Err(Error::Invalid(format!(
                    "{table} row {i}: {} is not a number (NaN)",
                    set.columns[at]
                )));
            }
        }
        Ok(())
    }

    /// What a finished unit wanted remembered; `None` while it is not finished.
    pub fn info(&self, iteration: i64, stage: &str, unit: i64) -> Result<Option<String>> {
        self.conn
            .prepare_cached("SELECT info FROM units WHERE iteration = ? AND stage = ? AND unit = ?")
            .and_then(|mut s| s.query_row((iteration, stage, unit), |row| row.get(0)).optional())
            .map_err(|err| from_sqlite(&self.path, err))
    }

    /// Finished units, in order, of one iteration or stage or of all.
    pub fn units(&self, iteration: Option<i64>, stage: Option<&str>) -> Result<Vec<Unit>> {
        let sql = "SELECT iteration, stage, unit, info FROM units \
                   WHERE (?1 IS NULL OR iteration = ?1) AND (?2 IS NULL OR stage = ?2) ORDER BY iteration, stage, unit";
        let read = || -> rusqlite::Result<Vec<Unit>> {
            let mut statement = self.conn.prepare_cached(sql)?;
            let rows = statement.query_map((iteration, stage), |row| {
                Ok(Unit {
                    iteration: row.get(0)?,
                    stage: row.get(1)?,
                    unit: row.get(2)?,
                    info: row.get(3)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|err| from_sqlite(&self.path, err))
    }

    /// What the run was created with.
    pub fn meta(&self) -> Result<BTreeMap<String, String>> {
        let read = || -> rusqlite::Result<BTreeMap<String, String>> {
            let mut statement = self.conn.prepare("SELECT key, value FROM meta")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().map_err(|err| from_sqlite(&self.path, err))
    }

    /// Answer a statement that only reads.
    pub fn query(&self, sql: &str, params: &[Value]) -> Result<Table> {
        let fail = |err| from_sqlite(&self.path, err);
        let mut statement = self.conn.prepare(sql).map_err(fail)?;
        let reads = statement.readonly() && statement.column_count() > 0;
        if !reads || sql.trim_start().to_ascii_uppercase().starts_with("PRAGMA") {
            return Err(Error::Invalid("query answers statements that only read".to_owned()));
        }
        let names: Vec<String> = statement.column_names().map(ToString::to_string).collect();
        let width = names.len();
        let rows = statement
            .query_map(params_from_iter(params), |row| (0..width).map(|i| row.get(i)).collect())
            .and_then(Iterator::collect)
            .map_err(fail)?;
        Ok((names, rows))
    }

    /// The mini-batch of an iteration (see [`plan::choose_prompts`]); earlier mini-batches are read from the store.
    pub fn choose_prompts(
        &self,
        iteration: i64,
        size: usize,
        run_seed: u64,
        weights: &HashMap<String, f64>,
    ) -> Result<Vec<String>> {
        if let Some((id, w)) = weights.iter().find(|(_, w)| !(0.0..=1.0).contains(*w)) {
            return Err(Error::Invalid(format!(
                "the weight of prompt {id:?} must be between 0 and 1, not {w}"
            )));
        }
        let sql = "SELECT p.prompt_id, (SELECT count(*) FROM batches b WHERE b.prompt_id = p.prompt_id AND b.iteration < ?) \
                   FROM prompts p WHERE p.split = 'train' ORDER BY p.position";
        let read = || -> rusqlite::Result<Vec<Candidate>> {
            let mut statement = self.conn.prepare(sql)?;
            let rows = statement.query_map([iteration], |row| {
                let id: String = row.get(0)?;
                Ok(Candidate {
                    uses: row.get(1)?,
                    weight: weights.get(&id).copied().unwrap_or(1.0),
                    id,
                })
            })?;
            rows.collect()
        };
        let candidates = read().map_err(|err| from_sqlite(&self.path, err))?;
        Ok(plan::choose_prompts(run_seed, &candidates, size))
    }

    /// Lay down the plan of draws as one unit, or answer the recorded one; refuse if they differ.
    pub fn plan_draws(
        &mut self,
        key: PlanKey<'_>,
        prompts: &[String],
        cells: &[CellPlan],
        batch_size: usize,
    ) -> Result<Vec<Draw>> {
        if batch_size == 0 || cells.iter().any(|c| c.1 < 0) {
            return Err(Error::Invalid(
                "a plan needs a batch size of 1 or more, and no negative draws".to_owned(),
            ));
        }
        let stage = format!("plan/{}", key.purpose);
        if self.info(key.iteration, &stage, 0)?.is_some() {
            let recorded = self.recorded_plan(key)?;
            let first = recorded.first().map_or(0, |d| d.id);
            if recorded != plan::plan_draws(key, first, prompts, cells, batch_size) {
                return Err(Error::Conflict(format!(
                    "iteration {} was planned with other prompts, cells or seeds",
                    key.iteration
                )));
            }
            return Ok(recorded);
        }
        let (_, rows) = self.query("SELECT coalesce(max(draw_id), 0) + 1 FROM draws", &[])?;
        let first = match rows.first().and_then(|r| r.first()) {
            Some(Value::Integer(id)) => *id,
            _ => 1,
        };
        let plan = plan::plan_draws(key, first, prompts, cells, batch_size);
        let unit = Unit {
            iteration: key.iteration,
            stage,
            unit: 0,
            info: format!("{{\"draws\":{}}}", plan.len()),
        };
        self.write(&unit, &BTreeMap::from([("draws".to_owned(), draw_rows(key, &plan))]))?;
        Ok(plan)
    }

    fn recorded_plan(&self, key: PlanKey<'_>) -> Result<Vec<Draw>> {
        let sql = "SELECT draw_id, prompt_id, cell, draw, seed, batch FROM draws \
                   WHERE iteration = ? AND purpose = ? ORDER BY draw_id";
        let read = || -> rusqlite::Result<Vec<Draw>> {
            let mut statement = self.conn.prepare(sql)?;
            let rows = statement.query_map((key.iteration, key.purpose), |row| {
                Ok(Draw {
                    id: row.get(0)?,
                    prompt: row.get(1)?,
                    cell: row.get(2)?,
                    draw: row.get(3)?,
                    seed: row.get::<_, i64>(4)?.cast_unsigned(),
                    batch: row.get(5)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|err| from_sqlite(&self.path, err))
    }

    /// Batches of a plan that lack an answer, in order.
    pub fn pending(&self, iteration: i64, purpose: &str) -> Result<Vec<i64>> {
        let sql = "SELECT DISTINCT batch FROM draws d WHERE iteration = ? AND purpose = ? \
                   AND NOT EXISTS (SELECT 1 FROM responses r WHERE r.draw_id = d.draw_id) ORDER BY batch";
        let read = || -> rusqlite::Result<Vec<i64>> {
            let mut statement = self.conn.prepare_cached(sql)?;
            statement.query_map((iteration, purpose), |row| row.get(0))?.collect()
        };
        read().map_err(|err| from_sqlite(&self.path, err))
    }

    /// An independent, consistent copy of the store as it is now.
    pub fn fork(&self, path: &Path) -> Result<()> {
        if path.exists() {
            return Err(Error::Conflict(format!("{} exists already", path.display())));
        }
        let part = schema::beside(path);
        schema::remove(&part)?;
        self.conn
            .execute("VACUUM INTO ?", [part.to_string_lossy()])
            .map_err(|err| from_sqlite(path, err))?;
        schema::publish(&part, path)
    }

    /// What is wrong with the file, if anything: SQLite's full integrity check and every reference between rows.
    pub fn check(&self) -> Result<Vec<String>> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.conn.prepare("PRAGMA integrity_check")?;
            let found: Vec<String> = statement
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut keys = self.conn.prepare("PRAGMA foreign_key_check")?;
            let loose = keys.query_map([], |row| {
                let (table, id): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
                Ok(format!(
                    "row {} of {table} refers to a row that is not there",
                    id.unwrap_or_default()
                ))
            })?;
            let loose: Vec<String> = loose.collect::<rusqlite::Result<_>>()?;
            Ok(found.into_iter().filter(|line| line != "ok").chain(loose).collect())
        };
        read().map_err(|err| from_sqlite(&self.path, err))
    }
}

/// Insert the unit's own row first: it says best what is wrong when the unit was written before.
fn claim(path: &Path, tx: &Transaction<'_>, unit: &Unit) -> Result<()> {
    let again = tx
        .query_row(
            "SELECT 1 FROM units WHERE iteration = ? AND stage = ? AND unit = ?",
            (unit.iteration, &unit.stage, unit.unit),
            |_| Ok(()),
        )
        .optional()
        .map_err(|err| from_sqlite(path, err))?;
    if again.is_some() {
        return Err(Error::Conflict(format!(
            "unit {} of stage {} in iteration {} is finished already",
            unit.unit, unit.stage, unit.iteration
        )));
    }
    tx.execute(
        "INSERT INTO units (iteration, stage, unit, info) VALUES (?, ?, ?, ?)",
        (unit.iteration, &unit.stage, unit.unit, &unit.info),
    )
    .map_err(|err| from_sqlite(path, err))?;
    Ok(())
}

fn draw_rows(key: PlanKey<'_>, plan: &[Draw]) -> RowSet {
    let columns = [
        "draw_id",
        "iteration",
        "purpose",
        "prompt_id",
        "cell",
        "draw",
        "seed",
        "batch",
    ];
    let rows = plan.iter().map(|d| {
        vec![
            Value::Integer(d.id),
            Value::Integer(key.iteration),
            Value::Text(key.purpose.to_owned()),
            Value::Text(d.prompt.clone()),
            Value::Text(d.cell.clone()),
            Value::Integer(d.draw),
            Value::Integer(d.seed.cast_signed()),
            Value::Integer(d.batch),
        ]
    });
    RowSet {
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}
