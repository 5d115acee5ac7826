//! Rows of a unit on their way into the store, and the end of the transaction that they are in.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ffi, params};

use super::names::unknown;
use super::schema::Tables;
use crate::{Error, Result};

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A signed integer; booleans are 0 and 1.
    Int(i64),
    /// An integer beyond the signed range. Only `responses.seed` takes it, as the signed integer of the same bits.
    Unsigned(u64),
    /// A number that is not NaN.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Unsigned(value) => ValueRef::Integer(value.cast_signed()),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
            Value::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

/// Rows for one table, with the columns that they give.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// A table of `schema.sql` other than those that the store itself writes.
    pub table: String,
    /// The columns that every row gives; the others are NULL, or numbered by SQLite.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// Adds the row of a unit, or says that it is there already.
pub(super) fn insert_unit(conn: &Connection, iteration: i64, stage: &str, unit: i64, info: &str) -> Result<()> {
    let added = conn.execute(
        "INSERT INTO units (iteration, stage, unit, info) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
        params![iteration, stage, unit, info],
    )?;
    if added == 0 {
        return Err(Error::Conflict(format!(
            "unit {unit} of stage {stage:?} in iteration {iteration} is already recorded"
        )));
    }
    Ok(())
}

pub(super) fn insert_rows(conn: &Connection, known: &Tables, rows: &Rows) -> Result<()> {
    check_names(known, rows)?;
    let mut statement = conn.prepare_cached(&insert_sql(rows))?;
    for (at, row) in rows.rows.iter().enumerate() {
        check_row(rows, at, row)?;
        statement
            .execute(rusqlite::params_from_iter(row))
            .map_err(|error| refused(&rows.table, at, error))?;
    }
    Ok(())
}

/// Tables with ways of their own in.
const WRITTEN_BY_THE_STORE: [&str; 9] = [
    "meta",
    "units",
    "plans",
    "plan_prompts",
    "plan_cells",
    "plan_answers",
    "leases",
    "assignments",
    "verdicts",
];

/// The names go into the statement's text, so only names of the schema may pass.
fn check_names(known: &Tables, rows: &Rows) -> Result<()> {
    let Rows { table, columns, .. } = rows;
    if WRITTEN_BY_THE_STORE.contains(&table.as_str()) {
        return Err(Error::Invalid(format!(
            "table {table:?} is written by the store itself"
        )));
    }
    let names = known
        .get(table)
        .ok_or_else(|| Error::Invalid(unknown("table", table, known.keys().map(String::as_str))))?;
    if columns.is_empty() {
        return Err(Error::Invalid(format!("{table}: no columns given")));
    }
    for (at, column) in columns.iter().enumerate() {
        if !names.contains(column) {
            let what = format!("column of table {table:?}:");
            let names = names.iter().map(String::as_str);
            return Err(Error::Invalid(unknown(&what, column, names)));
        }
        if columns[..at].contains(column) {
            return Err(Error::Invalid(format!("{table}.{column} is given twice")));
        }
    }
    Ok(())
}

fn check_row(rows: &Rows, at: usize, row: &[Value]) -> Result<()> {
    let Rows { table, columns, .. } = rows;
    if row.len() != columns.len() {
        return Err(Error::Invalid(format!(
            "{table}, row {at}: {} values for {} columns",
            row.len(),
            columns.len()
        )));
    }
    for (column, value) in columns.iter().zip(row) {
        let wrong = match value {
            // SQLite would store NULL in its place.
            Value::Real(number) if number.is_nan() => "is NaN",
            Value::Unsigned(_) if (table.as_str(), column.as_str()) != ("responses", "seed") => {
                "is beyond 64-bit signed integers"
            }
            _ => continue,
        };
        return Err(Error::Invalid(format!("{table}.{column}, row {at}: {wrong}")));
    }
    Ok(())
}

fn insert_sql(rows: &Rows) -> String {
    let marks = vec!["?"; rows.columns.len()].join(", ");
    format!(
        "INSERT INTO {} ({}) VALUES ({marks})",
        rows.table,
        rows.columns.join(", ")
    )
}

/// A row that is there already is a conflict; one that breaks another rule of the table is an unusable argument.
pub(super) fn refused(table: &str, at: usize, error: rusqlite::Error) -> Error {
    let Some(inner) = error.sqlite_error() else {
        return Error::Sqlite(error);
    };
    let message = format!("{table}, row {at}: {error}");
    match inner.extended_code {
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_ROWID => {
            Error::Conflict(message)
        }
        _ if inner.code == ffi::ErrorCode::ConstraintViolation
            || inner.code == ffi::ErrorCode::TypeMismatch
            || inner.code == ffi::ErrorCode::TooBig =>
        {
            Error::Invalid(message)
        }
        _ => Error::Sqlite(error),
    }
}

/// Ends a transaction. Where a reference is left dangling, says which.
pub(super) fn commit(conn: &Connection) -> Result<()> {
    let Err(error) = conn.execute_batch("COMMIT") else {
        return Ok(());
    };
    let code = error.sqlite_error().map(|inner| inner.extended_code);
    if code == Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
        && let Some(message) = dangling(conn)?
    {
        return Err(Error::Conflict(message));
    }
    Err(error.into())
}

/// `labels.pair_id refers to "x", which is not in pairs`, for the first such row of the store.
fn dangling(conn: &Connection) -> Result<Option<String>> {
    let found = conn
        .query_row(
            r#"SELECT v."table", f."from", v.parent, v.rowid
               FROM pragma_foreign_key_check AS v, pragma_foreign_key_list(v."table") AS f
               WHERE f.id = v.fkid"#,
            [],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            },
        )
        .optional()?;
    let Some((table, column, parent, rowid)) = found else {
        return Ok(None);
    };
    let value: String = conn.query_row(
        &format!("SELECT quote({column}) FROM {table} WHERE rowid = ?1"),
        [rowid],
        |row| row.get(0),
    )?;
    Ok(Some(format!(
        "{table}.{column} refers to {value}, which is not in {parent}"
    )))
}
