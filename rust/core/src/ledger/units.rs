//! Writing a unit: all of its rows in one transaction, or none.

use super::journal::Ledger;
use super::rows::{Rows, insert_rows, insert_unit};
use crate::Result;

impl Ledger {
    /// Records a finished unit and its rows in one transaction. Rows may refer to one another in any order.
    ///
    /// # Errors
    /// `Invalid` for an unknown table or column, a value that a column cannot hold, or a NaN; `Conflict` when the unit
    /// or a row is already there, or a row refers to one that is not; `DiskFull`. Nothing is written then.
    pub fn write(&mut self, iteration: i64, stage: &str, unit: i64, info: &str, tables: &[Rows]) -> Result<()> {
        self.writing(|conn, known| {
            insert_unit(conn, iteration, stage, unit, info)?;
            tables.iter().try_for_each(|rows| insert_rows(conn, known, rows))
        })
    }
}
