//! The plan of draws in the store: laid down before sampling begins, so a resumed run samples what is missing and
//! nothing else. What its draws are is told by `layout.rs`.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::journal::Ledger;
use super::layout::{CellRequest, Plan, PlanRequest, sampling};
use super::names::unknown;
use super::rows::insert_unit;
use crate::run::Stop;
use crate::{Error, Result};

/// What draws are made for; the schema allows no others.
const PURPOSES: [&str; 2] = ["train", "evaluate"];

/// A list of more batches than this would take memory beyond what anybody means to spend on it.
const MOST_PENDING: i64 = 1 << 24;

/// The smallest number that no response has and no plan has given out.
const FREE_NUMBER: &str = "SELECT 1 + max(
    (SELECT coalesce(max(response_id), 0) FROM responses),
    (SELECT coalesce(max(first_draw + draws), 1) - 1 FROM plans))";

impl Ledger {
    /// Lays down the plan of an iteration, or returns the one that is already there.
    ///
    /// The draws go by model, then prompt, cell and draw, each in the order given: prompts that stand together are
    /// computed together, whichever cells ask. Every model's draws are cut into batches of `batch_size`, the last of
    /// which may be smaller. The plan is unit 0 of stage `plan/<purpose>`.
    ///
    /// # Errors
    /// `Invalid` for a negative iteration, an unknown purpose or prompt, a repeated prompt or cell, or a batch size of 0;
    /// `Conflict` when another plan is recorded; `Stopped`, with nothing written.
    pub fn plan_draws(&mut self, request: PlanRequest, stop: &Stop) -> Result<Plan> {
        check(&request, stop)?;
        if let Some(recorded) = self.reading(|conn| load(conn, request.iteration, &request.purpose))? {
            refuse_other(request, &recorded, stop)?;
            return Ok(recorded);
        }
        self.writing(|conn, _| {
            check_prompts(conn, &request.prompts, stop)?;
            let first_id = conn.query_row(FREE_NUMBER, [], |row| row.get(0))?;
            let plan = Plan::new(request, first_id)?;
            insert_plan(conn, &plan, stop)?;
            Ok(plan)
        })
    }

    /// The plan that was laid down for an iteration and purpose.
    ///
    /// # Errors
    /// `Invalid` when there is none.
    pub fn plan(&self, iteration: i64, purpose: &str) -> Result<Plan> {
        self.reading(|conn| load(conn, iteration, purpose))?
            .ok_or_else(|| no_plan(iteration, purpose))
    }

    /// The same, read at the first call only.
    pub(super) fn planned(&mut self, iteration: i64, purpose: &str) -> Result<Arc<Plan>> {
        if let Some(plan) = self.work.plan(iteration, purpose) {
            return Ok(plan);
        }
        let plan = Arc::new(self.plan(iteration, purpose)?);
        self.work.add(&plan);
        Ok(plan)
    }

    /// The smallest number for a response that no plan has asked for, such as an edited text.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn free_response_id(&self) -> Result<i64> {
        self.reading(|conn| Ok(conn.query_row(FREE_NUMBER, [], |row| row.get(0))?))
    }

    /// The batches of a plan that are not recorded yet, ascending.
    ///
    /// # Errors
    /// `Invalid` when nothing is planned for that iteration and purpose, or more than 16,777,216 batches are pending.
    pub fn pending(&self, iteration: i64, purpose: &str) -> Result<Vec<i64>> {
        self.reading(|conn| {
            let sql = "SELECT batches FROM plans WHERE iteration = ?1 AND purpose = ?2";
            let planned = conn.query_row(sql, params![iteration, purpose], |row| row.get(0));
            let batches: i64 = planned.optional()?.ok_or_else(|| no_plan(iteration, purpose))?;
            let mut statement = conn.prepare_cached("SELECT unit FROM units WHERE iteration = ?1 AND stage = ?2")?;
            let found = statement.query_map(params![iteration, sampling(purpose)], |row| row.get(0))?;
            let done = found.collect::<rusqlite::Result<HashSet<i64>>>()?;
            let open = batches - done.len() as i64;
            if open > MOST_PENDING {
                return Err(Error::Invalid(format!(
                    "{open} batches of iteration {iteration} are pending, and a list holds {MOST_PENDING} at most; plan \
                     larger batches"
                )));
            }
            Ok((0..batches).filter(|batch| !done.contains(batch)).collect())
        })
    }
}

fn no_plan(iteration: i64, purpose: &str) -> Error {
    Error::Invalid(format!(
        "iteration {iteration} has no plan of draws for {purpose:?} yet"
    ))
}

/// Refuses an iteration that no run has.
pub(super) fn check_iteration(iteration: i64) -> Result<()> {
    if iteration < 0 {
        return Err(Error::Invalid(format!("iteration {iteration}; the first one is 0")));
    }
    Ok(())
}

fn check(request: &PlanRequest, stop: &Stop) -> Result<()> {
    check_iteration(request.iteration)?;
    if !PURPOSES.contains(&request.purpose.as_str()) {
        let message = unknown("purpose", &request.purpose, PURPOSES);
        return Err(Error::Invalid(message));
    }
    if i64::try_from(request.batch_size).map_or(true, |size| size == 0) {
        return Err(Error::Invalid(format!("a batch size of {}", request.batch_size)));
    }
    refuse_repeated("prompt", &request.prompts, stop)?;
    refuse_repeated("cell", request.cells.iter().map(|cell| &cell.cell), stop)?;
    let restricted: Vec<_> = request.cells.iter().filter_map(|cell| cell.prompts.as_ref()).collect();
    if restricted.is_empty() {
        return Ok(());
    }
    let known: HashSet<&String> = request.prompts.iter().collect();
    for own in restricted {
        refuse_repeated("prompt", own, stop)?;
        if let Some(id) = own.iter().find(|id| !known.contains(id)) {
            return Err(Error::Invalid(format!("prompt {id:?} of a cell is not in the plan")));
        }
    }
    Ok(())
}

fn refuse_repeated<'a>(what: &str, names: impl IntoIterator<Item = &'a String>, stop: &Stop) -> Result<()> {
    let mut seen = HashSet::new();
    for (at, name) in names.into_iter().enumerate() {
        now_and_then(at, stop)?;
        if !seen.insert(name) {
            return Err(Error::Invalid(format!("{what} {name:?} is given twice")));
        }
    }
    Ok(())
}

fn check_prompts(conn: &Connection, prompts: &[String], stop: &Stop) -> Result<()> {
    let mut statement = conn.prepare("SELECT 1 FROM prompts WHERE prompt_id = ?1")?;
    for (at, id) in prompts.iter().enumerate() {
        now_and_then(at, stop)?;
        if !statement.exists([id])? {
            return Err(Error::Invalid(format!("prompt {id:?} is not in this run")));
        }
    }
    Ok(())
}

/// Looks at `stop` at every four thousandth step.
fn now_and_then(step: usize, stop: &Stop) -> Result<()> {
    if step.is_multiple_of(4096) {
        stop.check()
    } else {
        Ok(())
    }
}

fn insert_plan(conn: &Connection, plan: &Plan, stop: &Stop) -> Result<()> {
    let (draws, batches) = (plan.draws(), plan.batches());
    let PlanRequest {
        iteration,
        purpose,
        run_seed,
        prompts,
        cells,
        batch_size,
    } = plan.request();
    let info = format!(r#"{{"draws": {draws}, "batches": {batches}}}"#);
    insert_unit(conn, *iteration, &format!("plan/{purpose}"), 0, &info)?;
    conn.execute(
        "INSERT INTO plans (iteration, purpose, run_seed, batch_size, first_draw, draws, batches)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            iteration,
            purpose,
            run_seed.cast_signed(),
            *batch_size as i64,
            plan.first_id(),
            draws,
            batches
        ],
    )?;
    let id = conn.last_insert_rowid();
    let mut statement = conn.prepare("INSERT INTO plan_prompts (plan, position, prompt_id) VALUES (?1, ?2, ?3)")?;
    for (position, prompt_id) in prompts.iter().enumerate() {
        now_and_then(position, stop)?;
        statement.execute(params![id, position as i64, prompt_id])?;
    }
    let mut cells_at = cells.iter().enumerate();
    cells_at.try_for_each(|(position, cell)| insert_cell(conn, id, position as i64, cell, prompts))
}

fn insert_cell(conn: &Connection, plan: i64, position: i64, cell: &CellRequest, prompts: &[String]) -> Result<()> {
    conn.execute(
        "INSERT INTO plan_cells (plan, position, cell, draws, model, everyone) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            plan,
            position,
            cell.cell,
            cell.draws,
            cell.model,
            cell.prompts.is_none()
        ],
    )?;
    let Some(own) = &cell.prompts else {
        return Ok(());
    };
    let own: HashSet<&String> = own.iter().collect();
    let mut statement = conn.prepare_cached("INSERT INTO plan_answers (plan, cell, prompt) VALUES (?1, ?2, ?3)")?;
    for (prompt, _) in prompts.iter().enumerate().filter(|(_, id)| own.contains(id)) {
        statement.execute(params![plan, position, prompt as i64])?;
    }
    Ok(())
}

/// Reads a plan back; none where none was laid down.
pub(super) fn load(conn: &Connection, iteration: i64, purpose: &str) -> Result<Option<Plan>> {
    let sql = "SELECT plan, run_seed, batch_size, first_draw FROM plans WHERE iteration = ?1 AND purpose = ?2";
    let header = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let found: Option<(i64, i64, i64, i64)> = conn.query_row(sql, params![iteration, purpose], header).optional()?;
    let Some((id, run_seed, batch_size, first_id)) = found else {
        return Ok(None);
    };
    let mut statement = conn.prepare_cached("SELECT prompt_id FROM plan_prompts WHERE plan = ?1 ORDER BY position")?;
    let prompts = statement
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let request = PlanRequest {
        iteration,
        purpose: purpose.into(),
        run_seed: run_seed.cast_unsigned(),
        cells: load_cells(conn, id)?,
        prompts,
        batch_size: batch_size as usize,
    };
    Plan::new(request, first_id).map(Some)
}

fn load_cells(conn: &Connection, plan: i64) -> Result<Vec<CellRequest>> {
    let mut cells = conn.prepare_cached(
        "SELECT cell, draws, model, position, everyone FROM plan_cells WHERE plan = ?1 ORDER BY position",
    )?;
    let mut own = conn.prepare_cached(
        "SELECT p.prompt_id FROM plan_answers AS a JOIN plan_prompts AS p ON p.plan = a.plan AND p.position = a.prompt
         WHERE a.plan = ?1 AND a.cell = ?2 ORDER BY a.prompt",
    )?;
    let mut found = cells.query([plan])?;
    let mut requests = Vec::new();
    while let Some(row) = found.next()? {
        let prompts = if row.get(4)? {
            None
        } else {
            let ids = own.query_map([plan, row.get(3)?], |row| row.get(0))?;
            Some(ids.collect::<rusqlite::Result<_>>()?)
        };
        requests.push(CellRequest {
            cell: row.get(0)?,
            draws: row.get(1)?,
            model: row.get(2)?,
            prompts,
        });
    }
    Ok(requests)
}

fn refuse_other_seed(asked: &Plan, recorded: &Plan) -> Result<()> {
    let (asked, recorded) = (asked.request(), recorded.request());
    if asked.run_seed == recorded.run_seed {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "iteration {} has another plan of draws for {:?}: its seed is {}, and now seed {} was asked for",
        asked.iteration, asked.purpose, recorded.run_seed, asked.run_seed
    )))
}

/// A run that is resumed under other settings must not mix two plans. Requests that differ in words only, such as a
/// cell without draws, may well ask for the same draws.
fn refuse_other(request: PlanRequest, recorded: &Plan, stop: &Stop) -> Result<()> {
    if request == *recorded.request() {
        return Ok(());
    }
    let asked = Plan::new(request, recorded.first_id())?;
    refuse_other_seed(&asked, recorded)?;
    let mut at = 0;
    for _ in asked.iter().zip(recorded.iter()).take_while(|(a, b)| a == b) {
        now_and_then(at as usize, stop)?;
        at += 1;
    }
    if at == asked.draws() && at == recorded.draws() {
        return Ok(());
    }
    let tell = |plan: &Plan| {
        plan.get(at).map_or_else(
            || "nothing".into(),
            |draw| format!("answer {} of {:?} to {:?}", draw.draw, draw.cell, draw.prompt_id),
        )
    };
    Err(Error::Conflict(format!(
        "iteration {} has another plan of draws for {:?}: {at} draws agree, then it has {} and now {} was asked for",
        asked.request().iteration,
        asked.request().purpose,
        tell(recorded),
        tell(&asked)
    )))
}
