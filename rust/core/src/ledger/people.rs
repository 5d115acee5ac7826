//! People's verdicts: who is given which pair, and what they said of it. Each is one short transaction, so that it can
//! be done beside a run that is at work. Which pairs come up for judgement, and in which order, is the caller's to say.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::journal::Ledger;
use super::lease::{SLACK, now};
use super::rows::refused;
use crate::{Error, Result};

/// A pair that a person may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The pair.
    pub pair_id: String,
    /// 0 for the first time; above, the person has judged it before and is asked once more.
    pub round: i64,
    /// Which answer stands on the left: `a` or `b`.
    pub on_left: String,
}

/// What a person said; the columns of `verdicts`.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The pair.
    pub pair_id: String,
    /// Who said it.
    pub annotator: String,
    /// As in [`Candidate`].
    pub round: i64,
    /// `a`, `b`, `tie`, `both_bad`, `edit`, `skip` or `undo`.
    pub said: String,
    /// The answer that an edit was made from, where known.
    pub side: Option<String>,
    /// The text of an edit.
    pub text: Option<String>,
    /// Why, in the person's words; may be empty.
    pub reason: String,
    /// From 0 to 1.
    pub confidence: f64,
    /// The verdict that an undo takes back.
    pub takes_back: Option<i64>,
    /// The sender's own name of it, never used twice; none for one from a file.
    pub request: Option<String>,
    /// Milliseconds since 1970; none for now.
    pub given: Option<i64>,
}

impl Ledger {
    /// Gives a person the first of the candidates that is still to be had, and returns the assignment's number; none
    /// where there is none.
    ///
    /// A pair is to be had in round 0 while fewer than `per_item` others have judged it or hold it; in a later round
    /// always. Who was given a pair holds it until judging or skipping it, or for `hold`. What the person has judged in
    /// that round is passed over. What the person holds should be the first candidate: it is the same assignment again
    /// in the first half of that time, and a fresh one afterwards.
    ///
    /// # Errors
    /// `Conflict` for a pair that there is not, `Invalid` for a round or side that is none.
    pub fn assign(
        &mut self,
        annotator: &str,
        candidates: &[Candidate],
        per_item: u32,
        hold: Duration,
    ) -> Result<Option<i64>> {
        let hold = i64::try_from(hold.as_millis()).unwrap_or(i64::MAX);
        self.annotating(|conn| {
            let now = now();
            for (at, candidate) in candidates.iter().enumerate() {
                if judged(conn, &candidate.pair_id, annotator, candidate.round)?.is_some() {
                    continue;
                }
                if candidate.round == 0 && others(conn, candidate, annotator, now, hold)? >= i64::from(per_item) {
                    continue;
                }
                return give(conn, at, candidate, annotator, now, hold).map(Some);
            }
            Ok(None)
        })
    }

    /// Records verdicts in their order, all or none, and returns their numbers.
    ///
    /// One whose request is recorded already is not recorded again: its number is that of before.
    ///
    /// # Errors
    /// `Conflict` for a pair or verdict that there is not, a second verdict of a person on a pair in a round while the
    /// first one stands, one that is taken back twice, or by somebody else, or a request that said something else
    /// before; `Invalid` for a value that a column cannot hold. Nothing is written then.
    pub fn say(&mut self, verdicts: &[Said]) -> Result<Vec<i64>> {
        self.annotating(|conn| {
            let now = now();
            let record = |(at, said)| record(conn, at, said, now);
            verdicts.iter().enumerate().map(record).collect()
        })
    }
}

/// The verdict of a person on a pair in a round that stands.
fn judged(conn: &Connection, pair: &str, annotator: &str, round: i64) -> Result<Option<i64>> {
    let mut statement =
        conn.prepare_cached("SELECT verdict_id FROM standing WHERE pair_id = ?1 AND annotator = ?2 AND round = ?3")?;
    let found = statement.query_row(params![pair, annotator, round], |row| row.get(0));
    Ok(found.optional()?)
}

/// How many others have judged the pair, or hold it. A skip gives it back.
fn others(conn: &Connection, candidate: &Candidate, annotator: &str, now: i64, hold: i64) -> Result<i64> {
    let mut statement = conn.prepare_cached(
        "SELECT count(*) FROM (
             SELECT annotator FROM standing WHERE pair_id = ?1 AND said <> 'skip'
             UNION
             SELECT annotator FROM assignments AS held WHERE pair_id = ?1 AND round = 0
                 AND given BETWEEN ?3 - ?4 AND ?3 + ?5
                 AND NOT EXISTS (SELECT 1 FROM standing AS s
                     WHERE s.pair_id = ?1 AND s.annotator = held.annotator AND s.round = 0)
         ) WHERE annotator <> ?2",
    )?;
    let found = statement.query_row(params![candidate.pair_id, annotator, now, hold, SLACK], |row| {
        row.get(0)
    })?;
    Ok(found)
}

fn give(conn: &Connection, at: usize, candidate: &Candidate, annotator: &str, now: i64, hold: i64) -> Result<i64> {
    let Candidate {
        pair_id,
        round,
        on_left,
    } = candidate;
    let held: Option<i64> = conn
        .prepare_cached(
            "SELECT max(assignment) FROM assignments WHERE pair_id = ?1 AND annotator = ?2 AND round = ?3
             AND on_left = ?4 AND given BETWEEN ?5 - ?6 AND ?5 + ?7",
        )?
        .query_row(
            params![pair_id, annotator, round, on_left, now, hold / 2, SLACK],
            |row| row.get(0),
        )?;
    if let Some(held) = held {
        return Ok(held);
    }
    conn.prepare_cached(
        "INSERT INTO assignments (pair_id, annotator, round, on_left, given) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![pair_id, annotator, round, on_left, now])
    .map_err(|error| refused("assignments", at, error))?;
    Ok(conn.last_insert_rowid())
}

fn record(conn: &Connection, at: usize, said: &Said, now: i64) -> Result<i64> {
    if let Some(known) = known(conn, said)? {
        return Ok(known);
    }
    match said.takes_back {
        Some(number) => require_own(conn, said, number)?,
        None => refuse_second(conn, said)?,
    }
    let row = params![
        said.pair_id,
        said.annotator,
        said.round,
        said.said,
        said.side,
        said.text,
        said.reason,
        said.confidence,
        said.takes_back,
        said.request,
        said.given.unwrap_or(now),
    ];
    conn.prepare_cached(
        "INSERT INTO verdicts
         (pair_id, annotator, round, said, side, text, reason, confidence, takes_back, request, given)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(row)
    .map_err(|error| refused("verdicts", at, error))?;
    Ok(conn.last_insert_rowid())
}

/// The verdict that a request recorded before; it has to be the same one.
fn known(conn: &Connection, said: &Said) -> Result<Option<i64>> {
    let Some(request) = &said.request else {
        return Ok(None);
    };
    let found: Option<(i64, bool)> = conn
        .prepare_cached(
            "SELECT verdict_id, pair_id = ?2 AND annotator = ?3 AND round = ?4 AND said = ?5 AND text IS ?6
             FROM verdicts WHERE request = ?1",
        )?
        .query_row(
            params![request, said.pair_id, said.annotator, said.round, said.said, said.text],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match found {
        Some((_, false)) => Err(Error::Conflict(format!(
            "request {request:?} recorded another verdict before; give each verdict a name of its own"
        ))),
        other => Ok(other.map(|(number, _)| number)),
    }
}

fn refuse_second(conn: &Connection, said: &Said) -> Result<()> {
    match judged(conn, &said.pair_id, &said.annotator, said.round)? {
        None => Ok(()),
        Some(number) => Err(Error::Conflict(format!(
            "{:?} has judged pair {} already (verdict {number}); take that back first",
            said.annotator, said.pair_id
        ))),
    }
}

/// An undo is about a verdict of the same person on the same pair. That it is not undone twice is a rule of the table.
fn require_own(conn: &Connection, said: &Said, number: i64) -> Result<()> {
    let own = conn
        .prepare_cached(
            "SELECT 1 FROM verdicts
             WHERE verdict_id = ?1 AND pair_id = ?2 AND annotator = ?3 AND round = ?4 AND said <> 'undo'",
        )?
        .exists(params![number, said.pair_id, said.annotator, said.round])?;
    if own {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "verdict {number} is none of {:?} on pair {}, so it cannot be taken back as such",
        said.annotator, said.pair_id
    )))
}
