//! Recording the answers of a batch: all of them in one transaction with the batch's unit, exactly once.

use rusqlite::{Connection, params};

use super::held::{give_up, no_batch};
use super::journal::Ledger;
use super::layout::{Plan, sampling};
use super::rows::{insert_unit, refused};
use crate::{Error, Result};

/// The answer to one draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was answered.
    pub text: String,
    /// Its tokens: little-endian u32, the end-of-turn token included where the answer ended by itself.
    pub token_ids: Vec<u8>,
    /// `stop` or `length`.
    pub finish_reason: String,
}

impl Ledger {
    /// Records the answers of a batch, in the order of its draws, as unit `batch` of stage `sample/<purpose>`.
    ///
    /// A response has the number of its draw, so what is recorded does not depend on who was quicker. A sampler has to
    /// hold the lease of the batch; the one writer of a run needs none, for nobody samples beside it.
    ///
    /// # Errors
    /// `Invalid` for a batch that is not planned, another number of answers than it has draws, or an answer that cannot
    /// be stored; `Conflict` when the batch is recorded already, or the lease was taken over. Nothing is written then.
    pub fn record(&mut self, iteration: i64, purpose: &str, batch: i64, answers: &[Answer]) -> Result<()> {
        let plan = self.planned(iteration, purpose)?;
        check(&plan, batch, answers)?;
        let sampler = self.sampler().map(String::from);
        self.sampling(|conn| {
            give_up(conn, &plan, batch, sampler.as_deref())?;
            insert_unit(conn, iteration, &sampling(purpose), batch, "{}")?;
            insert_answers(conn, &plan, batch, answers)
        })
    }
}

fn check(plan: &Plan, batch: i64, answers: &[Answer]) -> Result<()> {
    let draws = plan.batch(batch).ok_or_else(|| no_batch(plan, batch))?;
    if draws.len() != answers.len() {
        return Err(Error::Invalid(format!(
            "batch {batch} has {} draws, but {} answers were given; give one for each, in order",
            draws.len(),
            answers.len()
        )));
    }
    match answers.iter().position(|answer| answer.token_ids.len() % 4 != 0) {
        None => Ok(()),
        Some(at) => Err(Error::Invalid(format!(
            "the token ids of answer {at} are {} bytes, which is no number of u32",
            answers[at].token_ids.len()
        ))),
    }
}

fn insert_answers(conn: &Connection, plan: &Plan, batch: i64, answers: &[Answer]) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO responses
         (response_id, iteration, prompt_id, cell, seed, text, token_ids, tokens, finish_reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let draws = plan.batch(batch).into_iter().flatten();
    for (at, (draw, answer)) in draws.zip(answers).enumerate() {
        let row = params![
            draw.draw_id,
            plan.request().iteration,
            draw.prompt_id,
            draw.cell,
            draw.seed.cast_signed(),
            answer.text,
            answer.token_ids,
            (answer.token_ids.len() / 4) as i64,
            answer.finish_reason,
        ];
        statement
            .execute(row)
            .map_err(|error| refused("responses", at, error))?;
    }
    Ok(())
}
