//! Sampling bookkeeping: the plan of draws, their seeds, and the journal of a run (one SQLite file).

pub mod journal;
pub mod plan;
mod schema;
pub mod seeds;

pub use journal::{Journal, RowSet, Unit};
pub use rusqlite::types::Value;
