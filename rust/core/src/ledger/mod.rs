//! Sampling bookkeeping: the plan of draws, their seeds, and the journal of a run (one SQLite file).
//!
//! The unit of work is the *unit*: everything a stage finished, written in one transaction together with its row
//! in `units`. A unit is durable or absent, whatever kills the process, so a resumed run asks `is_done` and goes on.
//! A finished row is never changed or removed; later rows supersede it. What the rows mean is not known here:
//! this module knows the tables of `schema.sql`, and only choosing prompts, planning draws and recording their answers
//! look inside them.

mod batches;
mod budgets;
mod connect;
mod files;
mod held;
mod journal;
mod layout;
mod lease;
mod names;
mod people;
mod plan;
mod query;
mod record;
mod role;
mod rows;
mod schema;
mod seeds;
mod units;
mod work;

pub use batches::choose;
pub use budgets::allot;
pub use journal::Ledger;
pub use layout::{CellRequest, Draw, Plan, PlanRequest};
pub use people::{Candidate, Said};
pub use query::Table;
pub use record::Answer;
pub use rows::{Rows, Value};
pub use schema::{APPLICATION_ID, VERSION};
pub use seeds::{draw_seed, shuffle_key, sits_out};
