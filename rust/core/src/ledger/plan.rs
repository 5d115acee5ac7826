//! The plan of draws of an iteration: which answers are sampled, with which seeds, and which are computed together.
//! It is laid down before sampling begins, so a resumed run samples what is missing and nothing else.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::journal::Ledger;
use super::names::unknown;
use super::rows::insert_unit;
use super::seeds::draw_seed;
use crate::{Error, Result};

/// What draws are made for; the schema allows no others.
const PURPOSES: [&str; 2] = ["train", "evaluate"];

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// The iteration that samples.
    pub iteration: i64,
    /// `train` or `evaluate`.
    pub purpose: String,
    /// The seed of the run.
    pub run_seed: u64,
    /// Prompt ids, each once, in the order in which they are batched.
    pub prompts: Vec<String>,
    /// Cells, each once.
    pub cells: Vec<CellRequest>,
    /// How many draws are computed together.
    pub batch_size: usize,
}

/// What a cell is asked for.
#[derive(Debug, Clone)]
pub struct CellRequest {
    /// The cell.
    pub cell: String,
    /// How many answers it gives to a prompt.
    pub draws: u32,
    /// The prompts that it answers, where these are not all of the plan's.
    pub prompts: Option<Vec<String>>,
    /// What computes its answers: neighbouring cells of one model share batches. A cell without one shares none.
    pub model: Option<String>,
}

/// One answer to be sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// Consecutive over the run, from 1.
    pub draw_id: i64,
    /// The prompt to answer.
    pub prompt_id: String,
    /// The cell that answers.
    pub cell: String,
    /// The how-manieth answer of this cell to this prompt, from 0.
    pub draw: u32,
    /// The seed to sample with.
    pub seed: u64,
    /// The batch it is computed in, from 0 in each plan. A batch holds draws of one model only.
    pub batch: i64,
}

impl Ledger {
    /// Lays down the plan of an iteration, or returns the one that is already there.
    ///
    /// The draws go by model, then prompt, cell and draw, each in the order given: prompts that stand together are
    /// computed together, whichever cells ask. Every model's draws are cut into batches of `batch_size`, the last of
    /// which may be smaller. The plan is unit 0 of stage `plan/<purpose>`.
    ///
    /// # Errors
    /// `Invalid` for an unknown purpose or prompt, a repeated prompt or cell, or a batch size of 0; `Conflict` when
    /// another plan is recorded.
    pub fn plan_draws(&mut self, request: &PlanRequest) -> Result<Vec<Draw>> {
        check(request)?;
        if self.is_planned(request.iteration, &request.purpose)? {
            let recorded = self.recorded_plan(request.iteration, &request.purpose)?;
            refuse_other(request, &recorded)?;
            return Ok(recorded);
        }
        self.writing(|conn, _| {
            check_prompts(conn, &request.prompts)?;
            let sql = "SELECT coalesce(max(draw_id), 0) + 1 FROM draws";
            let plan = lay_out(request, conn.query_row(sql, [], |row| row.get(0))?);
            insert_plan(conn, request, &plan)?;
            Ok(plan)
        })
    }

    /// The batches of a plan with a draw that has no response yet, ascending.
    ///
    /// # Errors
    /// `Invalid` when nothing is planned for that iteration and purpose.
    pub fn pending(&self, iteration: i64, purpose: &str) -> Result<Vec<i64>> {
        if !self.is_planned(iteration, purpose)? {
            return Err(Error::Invalid(format!(
                "iteration {iteration} has no plan of draws for {purpose:?} yet"
            )));
        }
        self.reading(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT DISTINCT batch FROM draws AS d WHERE iteration = ?1 AND purpose = ?2
                 AND NOT EXISTS (SELECT 1 FROM responses AS r WHERE r.draw_id = d.draw_id)
                 ORDER BY batch",
            )?;
            let found = statement.query_map(params![iteration, purpose], |row| row.get(0))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn is_planned(&self, iteration: i64, purpose: &str) -> Result<bool> {
        self.is_done(iteration, &stage(purpose), 0)
    }

    fn recorded_plan(&self, iteration: i64, purpose: &str) -> Result<Vec<Draw>> {
        self.reading(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT draw_id, prompt_id, cell, draw, seed, batch FROM draws
                 WHERE iteration = ?1 AND purpose = ?2 ORDER BY draw_id",
            )?;
            let found = statement.query_map(params![iteration, purpose], |row| {
                Ok(Draw {
                    draw_id: row.get(0)?,
                    prompt_id: row.get(1)?,
                    cell: row.get(2)?,
                    draw: row.get(3)?,
                    seed: row.get::<_, i64>(4)?.cast_unsigned(),
                    batch: row.get(5)?,
                })
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }
}

fn stage(purpose: &str) -> String {
    format!("plan/{purpose}")
}

fn check(request: &PlanRequest) -> Result<()> {
    if !PURPOSES.contains(&request.purpose.as_str()) {
        let message = unknown("purpose", &request.purpose, PURPOSES);
        return Err(Error::Invalid(message));
    }
    if request.batch_size == 0 {
        return Err(Error::Invalid("a batch size of 0".into()));
    }
    refuse_repeated("prompt", &request.prompts)?;
    refuse_repeated("cell", request.cells.iter().map(|cell| &cell.cell))?;
    let known: HashSet<&String> = request.prompts.iter().collect();
    for own in request.cells.iter().filter_map(|cell| cell.prompts.as_ref()) {
        refuse_repeated("prompt", own)?;
        if let Some(id) = own.iter().find(|id| !known.contains(id)) {
            return Err(Error::Invalid(format!("prompt {id:?} of a cell is not in the plan")));
        }
    }
    Ok(())
}

fn refuse_repeated<'a>(what: &str, names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::Invalid(format!("{what} {name:?} is given twice")));
        }
    }
    Ok(())
}

fn check_prompts(conn: &Connection, prompts: &[String]) -> Result<()> {
    let mut statement = conn.prepare("SELECT 1 FROM prompts WHERE prompt_id = ?1")?;
    for id in prompts {
        if !statement.exists([id])? {
            return Err(Error::Invalid(format!("prompt {id:?} is not in this run")));
        }
    }
    Ok(())
}

fn lay_out(request: &PlanRequest, first_id: i64) -> Vec<Draw> {
    let mut plan: Vec<Draw> = Vec::new();
    let mut batch = -1;
    let one_model = |a: &CellRequest, b: &CellRequest| a.model.is_some() && a.model == b.model;
    for cells in request.cells.chunk_by(one_model) {
        let own: Vec<Option<HashSet<&String>>> = cells
            .iter()
            .map(|cell| cell.prompts.as_ref().map(|own| own.iter().collect()))
            .collect();
        let mut room = 0;
        for prompt_id in &request.prompts {
            let asked = cells
                .iter()
                .zip(&own)
                .filter(|(_, own)| own.as_ref().is_none_or(|own| own.contains(prompt_id)));
            for (CellRequest { cell, draws, .. }, _) in asked {
                for draw in 0..*draws {
                    if room == 0 {
                        batch += 1;
                        room = request.batch_size;
                    }
                    room -= 1;
                    plan.push(Draw {
                        draw_id: first_id + plan.len() as i64,
                        prompt_id: prompt_id.clone(),
                        cell: cell.clone(),
                        draw,
                        seed: draw_seed(request.run_seed, request.iteration, prompt_id, cell, draw),
                        batch,
                    });
                }
            }
        }
    }
    plan
}

fn insert_plan(conn: &Connection, request: &PlanRequest, plan: &[Draw]) -> Result<()> {
    let PlanRequest { iteration, purpose, .. } = request;
    let batches = plan.last().map_or(0, |last| last.batch + 1);
    let info = format!(r#"{{"draws": {}, "batches": {batches}}}"#, plan.len());
    insert_unit(conn, *iteration, &stage(purpose), 0, &info)?;
    let mut statement = conn.prepare(
        "INSERT INTO draws (draw_id, iteration, purpose, prompt_id, cell, draw, seed, batch)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for draw in plan {
        statement.execute(params![
            draw.draw_id,
            iteration,
            purpose,
            draw.prompt_id,
            draw.cell,
            draw.draw,
            draw.seed.cast_signed(),
            draw.batch,
        ])?;
    }
    Ok(())
}

/// A run that is resumed under other settings must not mix two plans.
fn refuse_other(request: &PlanRequest, recorded: &[Draw]) -> Result<()> {
    let first_id = recorded.first().map_or(1, |draw| draw.draw_id);
    let asked = lay_out(request, first_id);
    if asked == recorded {
        return Ok(());
    }
    let at = asked.iter().zip(recorded).take_while(|(a, b)| a == b).count();
    let tell = |plan: &[Draw]| {
        plan.get(at)
            .map_or_else(|| "nothing".into(), |draw| format!("{draw:?}"))
    };
    Err(Error::Conflict(format!(
        "iteration {} has another plan of draws for {:?}: {at} draws agree, then it has {} and now {} was asked for",
        request.iteration,
        request.purpose,
        tell(recorded),
        tell(&asked)
    )))
}
