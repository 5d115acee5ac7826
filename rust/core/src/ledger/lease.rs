//! Leases: how several samplers of one machine share a plan without answering a draw twice.
//!
//! A sampler takes the next free batch for a time, answers it, and records it. The lease only keeps two samplers from
//! the same work; that a batch is recorded once does not rest on it, and on no clock: one transaction finds the lease
//! still the sampler's own and the batch unrecorded, and writes all of it. So a lease that ran out may be used until
//! somebody takes it over, and a clock that jumps costs work that is done twice, never a draw.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};

use super::held::{give_up, require};
use super::journal::Ledger;
use super::layout::{Plan, sampling};
use crate::{Error, Result};

/// A lease of more than a week is a slip of the hand.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

impl Ledger {
    /// Takes the first batch that is neither recorded nor leased, for `time` from now on; none where there is none.
    ///
    /// A batch whose lease has run out is free, and so is one whose lease begins a minute or more from now: the clock
    /// was set back, and the lease would last too long.
    /// Where there is no free batch, [`Ledger::pending`] tells whether all are recorded or some are with others.
    ///
    /// # Errors
    /// `Invalid` when nothing is planned, for a time of 0 or more than a week, or where the store was not joined.
    pub fn lease(&mut self, iteration: i64, purpose: &str, time: Duration) -> Result<Option<i64>> {
        let sampler = self.require_sampler()?;
        let plan = self.planned(iteration, purpose)?;
        let time = checked(time)?;
        let from = self.work.first_open(iteration, purpose);
        let (open, free) = self.sampling(|conn| {
            let now = now();
            let (open, free) = find_free(conn, &plan, from, now)?;
            if let Some(batch) = free {
                grant(conn, &plan, batch, &sampler, now..now + time)?;
            }
            Ok((open, free))
        })?;
        self.work.set_first_open(iteration, purpose, open);
        Ok(free)
    }

    /// Makes the lease of a batch last for `time` from now on, also where it has run out and nobody took it over.
    ///
    /// # Errors
    /// `Conflict` when the sampler does not hold the batch any more; the rest as for [`Ledger::lease`].
    pub fn renew(&mut self, iteration: i64, purpose: &str, batch: i64, time: Duration) -> Result<()> {
        let sampler = self.require_sampler()?;
        let plan = self.planned(iteration, purpose)?;
        let time = checked(time)?;
        self.sampling(|conn| {
            require(conn, &plan, batch, &sampler)?;
            let now = now();
            grant(conn, &plan, batch, &sampler, now..now + time)
        })
    }

    /// Gives a batch back unanswered, so that another sampler need not wait until the lease runs out.
    ///
    /// # Errors
    /// As for [`Ledger::renew`].
    pub fn release(&mut self, iteration: i64, purpose: &str, batch: i64) -> Result<()> {
        let sampler = self.require_sampler()?;
        let plan = self.planned(iteration, purpose)?;
        self.sampling(|conn| give_up(conn, &plan, batch, Some(&sampler)))
    }

    fn require_sampler(&self) -> Result<String> {
        self.sampler().map(String::from).ok_or_else(|| {
            Error::Invalid(format!(
                "{} was not joined: leases are for samplers beside one another; open it with join",
                self.path().display()
            ))
        })
    }
}

/// How far in the future a lease may begin, in milliseconds: clocks are set back by a little all the time.
pub(super) const SLACK: i64 = 60_000;

/// The time in milliseconds.
fn checked(time: Duration) -> Result<i64> {
    if time.is_zero() || time > LONGEST {
        return Err(Error::Invalid(format!(
            "a lease of {} s; give more than 0 and at most {} s",
            time.as_secs_f64(),
            LONGEST.as_secs()
        )));
    }
    Ok((time.as_millis() as i64).max(1))
}

/// Milliseconds since 1970, by a clock that may be set.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// The first batch that is not recorded, and the first that is neither recorded nor leased; both at least `from`.
fn find_free(conn: &Connection, plan: &Plan, from: i64, now: i64) -> Result<(i64, Option<i64>)> {
    let request = plan.request();
    let mut statement = conn.prepare_cached(
        "SELECT batch FROM leases WHERE iteration = ?1 AND purpose = ?2 AND granted < ?3 + ?4 AND ?3 < expires",
    )?;
    let leased = statement.query_map(params![request.iteration, request.purpose, now, SLACK], |row| {
        row.get(0)
    })?;
    let leased = leased.collect::<rusqlite::Result<HashSet<i64>>>()?;
    let mut statement =
        conn.prepare_cached("SELECT unit FROM units WHERE iteration = ?1 AND stage = ?2 AND unit >= ?3 ORDER BY unit")?;
    let key = params![request.iteration, sampling(&request.purpose), from];
    let mut done = statement.query_map(key, |row| row.get(0))?;
    let mut recorded: Option<i64> = done.next().transpose()?;
    let mut open = None;
    for batch in from..plan.batches() {
        if recorded == Some(batch) {
            recorded = done.next().transpose()?;
            continue;
        }
        let open = *open.get_or_insert(batch);
        if !leased.contains(&batch) {
            return Ok((open, Some(batch)));
        }
    }
    Ok((open.unwrap_or_else(|| plan.batches()), None))
}

fn grant(conn: &Connection, plan: &Plan, batch: i64, sampler: &str, time: Range<i64>) -> Result<()> {
    let request = plan.request();
    conn.prepare_cached(
        "INSERT INTO leases (iteration, purpose, batch, sampler, granted, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET sampler = excluded.sampler, granted = excluded.granted, expires = excluded.expires",
    )?
    .execute(params![
        request.iteration,
        request.purpose,
        batch,
        sampler,
        time.start,
        time.end
    ])?;
    Ok(())
}
