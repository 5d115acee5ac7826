//! Who holds which batch: looked up and ended, in a transaction that is under way.

use rusqlite::{Connection, OptionalExtension, params};

use super::layout::{Plan, sampling};
use crate::{Error, Result};

/// Ends the lease of a batch, which has to be the sampler's own; without a sampler, whose ever it was.
pub(super) fn give_up(conn: &Connection, plan: &Plan, batch: i64, sampler: Option<&str>) -> Result<()> {
    if let Some(sampler) = sampler {
        require(conn, plan, batch, sampler)?;
    }
    let request = plan.request();
    conn.prepare_cached("DELETE FROM leases WHERE iteration = ?1 AND purpose = ?2 AND batch = ?3")?
        .execute(params![request.iteration, request.purpose, batch])?;
    Ok(())
}

/// Ends whatever an earlier process of this name left behind.
pub(super) fn forget(conn: &Connection, sampler: &str) -> Result<()> {
    conn.execute("DELETE FROM leases WHERE sampler = ?1", [sampler])?;
    Ok(())
}

/// Refuses a batch that the sampler does not hold. Names of samplers are unique while these live, so the name is enough.
pub(super) fn require(conn: &Connection, plan: &Plan, batch: i64, sampler: &str) -> Result<()> {
    if plan.batch(batch).is_none() {
        return Err(no_batch(plan, batch));
    }
    let request = plan.request();
    let holder: Option<String> = conn
        .prepare_cached("SELECT sampler FROM leases WHERE iteration = ?1 AND purpose = ?2 AND batch = ?3")?
        .query_row(params![request.iteration, request.purpose, batch], |row| row.get(0))
        .optional()?;
    if holder.as_deref() == Some(sampler) {
        return Ok(());
    }
    let recorded = conn
        .prepare_cached("SELECT 1 FROM units WHERE iteration = ?1 AND stage = ?2 AND unit = ?3")?
        .exists(params![request.iteration, sampling(&request.purpose), batch])?;
    let now = match holder {
        _ if recorded => "is recorded".into(),
        Some(holder) => format!("is leased by {holder:?}"),
        None => "is leased by nobody".into(),
    };
    Err(Error::Conflict(format!(
        "sampler {sampler:?} does not hold batch {batch} of iteration {}: it {now}; lease another, and for longer if \
         this lease ran out",
        request.iteration
    )))
}

pub(super) fn no_batch(plan: &Plan, batch: i64) -> Error {
    Error::Invalid(format!(
        "batch {batch} is not in the plan, which has {} batches from 0",
        plan.batches()
    ))
}
