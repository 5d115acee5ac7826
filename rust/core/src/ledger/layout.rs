//! A plan of draws, computed and not listed: any draw follows from its place by arithmetic, so a plan of a hundred
//! million draws takes the memory of its prompts. Knows nothing of the store.
//!
//! The draws go by model, then prompt, cell and draw number, each in the order that was asked for. Neighbouring cells
//! of one model form a *group*; a group's draws are cut into batches of `batch_size`, the last of which may be smaller.

use std::collections::HashSet;
use std::ops::Range;

use super::seeds::draw_seed;
use crate::{Error, Result};

/// What a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw<'a> {
    /// Its number in the run, consecutive within a plan; its answer gets the same.
    pub draw_id: i64,
    /// The prompt to answer.
    pub prompt_id: &'a str,
    /// The cell that answers.
    pub cell: &'a str,
    /// The how-manieth answer of this cell to this prompt, from 0.
    pub draw: u32,
    /// The seed to sample with.
    pub seed: u64,
    /// The batch it is computed in, from 0 in each plan. A batch holds draws of one model only.
    pub batch: i64,
}

/// The plan of an iteration's draws.
#[derive(Debug)]
pub struct Plan {
    request: PlanRequest,
    first_id: i64,
    /// By cell: which positions of `request.prompts` it answers; none for a cell that answers all.
    answers: Vec<Option<Vec<bool>>>,
    groups: Vec<Group>,
    draws: i64,
    batches: i64,
}

/// Neighbouring cells of one model.
#[derive(Debug)]
struct Group {
    cells: Range<usize>,
    first_draw: i64,
    first_batch: i64,
    starts: Starts,
}

/// Where each prompt's draws begin, counted within the group.
#[derive(Debug)]
enum Starts {
    /// So many draws for every prompt.
    Even(i64),
    /// By position; some cell of the group does not answer all prompts.
    Listed(Vec<i64>),
}

impl Plan {
    /// Lays out a request that was checked: names are not repeated, and a cell's prompts are among the plan's.
    ///
    /// # Errors
    /// `Invalid` when the draws are more than 64 bits can number.
    pub(super) fn new(request: PlanRequest, first_id: i64) -> Result<Self> {
        let answers = request.cells.iter().map(|cell| positions(&request.prompts, cell));
        let mut plan = Plan {
            answers: answers.collect(),
            groups: Vec::new(),
            draws: 0,
            batches: 0,
            first_id,
            request,
        };
        for cells in plan.neighbours() {
            plan.add(cells)?;
        }
        Ok(plan)
    }

    /// The ranges of neighbouring cells of one model.
    fn neighbours(&self) -> Vec<Range<usize>> {
        let one_model = |a: &CellRequest, b: &CellRequest| a.model.is_some() && a.model == b.model;
        let chunks = self.request.cells.chunk_by(one_model);
        let from = |at: &mut usize, chunk: &[CellRequest]| {
            *at += chunk.len();
            Some(*at - chunk.len()..*at)
        };
        chunks.scan(0, from).collect()
    }

    fn add(&mut self, cells: Range<usize>) -> Result<()> {
        let (starts, length) = self.starts(cells.clone()).ok_or_else(too_many)?;
        let group = Group {
            cells,
            first_draw: self.draws,
            first_batch: self.batches,
            starts,
        };
        self.draws = self.draws.checked_add(length).ok_or_else(too_many)?;
        self.first_id.checked_add(self.draws).ok_or_else(too_many)?;
        self.batches += length
            .cast_unsigned()
            .div_ceil(self.request.batch_size as u64)
            .cast_signed();
        self.groups.push(group);
        Ok(())
    }

    /// Where each prompt's draws begin in a group of these cells, and how many draws it has; none where 64 bits are
    /// too few.
    fn starts(&self, cells: Range<usize>) -> Option<(Starts, i64)> {
        let prompts = self.request.prompts.len();
        if self.answers[cells.clone()].iter().all(Option::is_none) {
            let each = self.per_prompt(cells, 0);
            return Some((Starts::Even(each), each.checked_mul(i64::try_from(prompts).ok()?)?));
        }
        let mut total = 0_i64;
        let mut starts = Vec::with_capacity(prompts);
        for position in 0..prompts {
            starts.push(total);
            total = total.checked_add(self.per_prompt(cells.clone(), position))?;
        }
        Some((Starts::Listed(starts), total))
    }

    fn per_prompt(&self, cells: Range<usize>, position: usize) -> i64 {
        cells.map(|cell| i64::from(self.draws_of(cell, position))).sum()
    }

    /// How many answers a cell gives to the prompt at a position.
    fn draws_of(&self, cell: usize, position: usize) -> u32 {
        match &self.answers[cell] {
            Some(answers) if !answers[position] => 0,
            _ => self.request.cells[cell].draws,
        }
    }

    /// What the plan was made from.
    #[must_use]
    pub fn request(&self) -> &PlanRequest {
        &self.request
    }

    /// The number of the first draw in the run.
    #[must_use]
    pub fn first_id(&self) -> i64 {
        self.first_id
    }

    /// How many draws there are.
    #[must_use]
    pub fn draws(&self) -> i64 {
        self.draws
    }

    /// How many batches they are computed in.
    #[must_use]
    pub fn batches(&self) -> i64 {
        self.batches
    }

    /// The draw at a place, counted from 0; none beyond the last.
    #[must_use]
    pub fn get(&self, place: i64) -> Option<Draw<'_>> {
        (0..self.draws).contains(&place).then(|| self.at(place))
    }

    /// All draws in order.
    pub fn iter(&self) -> impl Iterator<Item = Draw<'_>> {
        (0..self.draws).map(|place| self.at(place))
    }

    /// The draws that are computed together as a batch; none when there is no such batch.
    #[must_use]
    pub fn batch(&self, batch: i64) -> Option<impl ExactSizeIterator<Item = Draw<'_>>> {
        if !(0..self.batches).contains(&batch) {
            return None;
        }
        // Of groups without draws, which begin with the same batch, the last one before the next is the one that has it.
        let at = self.groups.partition_point(|group| group.first_batch <= batch) - 1;
        let size = self.request.batch_size as i64;
        let from = self.groups[at].first_draw + (batch - self.groups[at].first_batch) * size;
        let end = self.groups.get(at + 1).map_or(self.draws, |next| next.first_draw);
        // A batch is a part of what memory holds, so its length fits.
        let length = size.min(end - from) as usize;
        Some((0..length).map(move |i| self.at(from + i as i64)))
    }

    fn at(&self, place: i64) -> Draw<'_> {
        let at = self.groups.partition_point(|group| group.first_draw <= place) - 1;
        let group = &self.groups[at];
        let within = place - group.first_draw;
        let (position, mut rest) = match &group.starts {
            Starts::Even(each) => ((within / each) as usize, within % each),
            Starts::Listed(starts) => {
                let position = starts.partition_point(|start| *start <= within) - 1;
                (position, within - starts[position])
            }
        };
        let mut cell = group.cells.start;
        while rest >= i64::from(self.draws_of(cell, position)) {
            rest -= i64::from(self.draws_of(cell, position));
            cell += 1;
        }
        let (prompt_id, name) = (&self.request.prompts[position], &self.request.cells[cell].cell);
        let draw = rest as u32;
        Draw {
            draw_id: self.first_id + place,
            prompt_id,
            cell: name,
            draw,
            seed: draw_seed(self.request.run_seed, self.request.iteration, prompt_id, name, draw),
            batch: group.first_batch + within / self.request.batch_size as i64,
        }
    }
}

/// Which of the prompts a cell answers, by position; none for all.
fn positions(prompts: &[String], cell: &CellRequest) -> Option<Vec<bool>> {
    let own: HashSet<&String> = cell.prompts.as_ref()?.iter().collect();
    Some(prompts.iter().map(|id| own.contains(id)).collect())
}

fn too_many() -> Error {
    Error::Invalid("a plan of more draws than 64 bits can number".into())
}

/// The stage whose units are the recorded batches of a plan.
pub(super) fn sampling(purpose: &str) -> String {
    format!("sample/{purpose}")
}
