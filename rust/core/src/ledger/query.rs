//! Reading a store: what is finished, and any SELECT.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, params};

use super::journal::Ledger;
use super::rows::Value;
use crate::{Error, Result};

/// The answer to a query: column names and rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// One name a column.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// A finished unit: iteration, stage, number, info.
type Unit = (i64, String, i64, String);

impl Ledger {
    /// The entries that the store was created with.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn meta(&self) -> Result<BTreeMap<String, String>> {
        self.reading(|conn| {
            let mut statement = conn.prepare_cached("SELECT key, value FROM meta")?;
            let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Whether a unit is finished.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_done(&self, iteration: i64, stage: &str, unit: i64) -> Result<bool> {
        Ok(self.info(iteration, stage, unit)?.is_some())
    }

    /// What a finished unit noted down; none where it is not finished.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn info(&self, iteration: i64, stage: &str, unit: i64) -> Result<Option<String>> {
        self.reading(|conn| {
            let mut statement =
                conn.prepare_cached("SELECT info FROM units WHERE iteration = ?1 AND stage = ?2 AND unit = ?3")?;
            Ok(statement
                .query_row(params![iteration, stage, unit], |row| row.get(0))
                .optional()?)
        })
    }

    /// The finished units, of one iteration or stage where given, by iteration, stage and number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn units(&self, iteration: Option<i64>, stage: Option<&str>) -> Result<Vec<Unit>> {
        self.reading(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT iteration, stage, unit, info FROM units
                 WHERE (?1 IS NULL OR iteration = ?1) AND (?2 IS NULL OR stage = ?2)
                 ORDER BY iteration, stage, unit",
            )?;
            let found = statement.query_map(params![iteration, stage], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Runs one reading statement: SELECT, WITH, VALUES or EXPLAIN. Seeds come as stored, as signed integers.
    ///
    /// # Errors
    /// `Invalid` for any other statement, several statements, SQL that is wrong, or parameters that do not fit.
    pub fn query(&self, sql: &str, parameters: &[Value]) -> Result<Table> {
        check_parameters(parameters)?;
        self.reading(|conn| {
            let mut statement = conn.prepare_cached(sql).map_err(wrong_sql)?;
            // The connection cannot write anyway; this also refuses PRAGMA, ATTACH and BEGIN, which could change how
            // later queries of the same connection see the store.
            if !statement.readonly() || !READING.contains(&first_word(sql).as_str()) {
                return Err(Error::Invalid(format!(
                    "only reading statements ({}) are allowed here: {sql}",
                    READING.join(", ")
                )));
            }
            let columns: Vec<String> = statement.column_names().map(String::from).collect();
            let mut found = statement
                .query(rusqlite::params_from_iter(parameters))
                .map_err(wrong_sql)?;
            let mut rows = Vec::new();
            while let Some(row) = found.next()? {
                rows.push(values(row, &columns)?);
            }
            Ok(Table { columns, rows })
        })
    }
}

const READING: [&str; 4] = ["SELECT", "WITH", "VALUES", "EXPLAIN"];

/// The first word of a statement in capitals, past blanks and comments.
fn first_word(sql: &str) -> String {
    let mut rest = sql.trim_start();
    loop {
        let after = match rest.get(..2) {
            Some("--") => rest.split_once('\n').map(|(_, after)| after),
            Some("/*") => rest[2..].split_once("*/").map(|(_, after)| after),
            _ => break,
        };
        rest = after.unwrap_or_default().trim_start();
    }
    rest.chars()
        .take_while(char::is_ascii_alphabetic)
        .map(|letter| letter.to_ascii_uppercase())
        .collect()
}

fn check_parameters(parameters: &[Value]) -> Result<()> {
    let wrong = |value: &Value| match value {
        Value::Unsigned(_) => true,
        Value::Real(number) => number.is_nan(),
        _ => false,
    };
    match parameters.iter().position(wrong) {
        None => Ok(()),
        Some(at) => Err(Error::Invalid(format!(
            "parameter {at} is NaN or beyond 64-bit signed integers"
        ))),
    }
}

/// What the caller wrote is at fault, unless the file is.
fn wrong_sql(error: rusqlite::Error) -> Error {
    match error {
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::MultipleStatement
        | rusqlite::Error::Empty
        | rusqlite::Error::NulError(_)
        | rusqlite::Error::InvalidParameterCount(..) => Error::Invalid(error.to_string()),
        other if other.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => Error::Invalid(other.to_string()),
        other => Error::Sqlite(other),
    }
}

fn values(row: &Row<'_>, columns: &[String]) -> Result<Vec<Value>> {
    let value = |(at, name): (usize, &String)| {
        Ok(match row.get_ref(at)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(value) => Value::Int(value),
            ValueRef::Real(value) => Value::Real(value),
            ValueRef::Text(bytes) => Value::Text(
                String::from_utf8(bytes.to_vec())
                    .map_err(|_| Error::Invalid(format!("column {name:?} is not UTF-8 text")))?,
            ),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        })
    };
    columns.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::first_word;

    #[test]
    fn finds_the_first_word() {
        for (sql, word) in [
            ("select 1", "SELECT"),
            ("  -- a\n /* b */\nWith x AS (VALUES (1)) SELECT 1", "WITH"),
            ("-- only a comment", ""),
            ("/* open", ""),
            ("é", ""),
            ("", ""),
        ] {
            assert_eq!(first_word(sql), word, "{sql}");
        }
    }
}
