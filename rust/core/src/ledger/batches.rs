//! The mini-batch of prompts of an iteration: without replacement, seeded, from nothing but what is recorded.
//!
//! An *epoch* is one walk through all train prompts, in an order of its own: ascending `shuffle_key` of the run seed,
//! the epoch's number and the prompt's id (equal keys: by position). A prompt of weight w sits out an epoch with
//! probability 1 - w (`sits_out`). The state is read off the recorded batches: going through them in order, an epoch
//! ends, and the next begins, where a prompt comes that was already used in it. Then a batch is:
//!
//! 1. The prompts not yet used in the epoch and not sitting it out, in the epoch's order.
//! 2. If these are too few, the next epoch begins in the same batch, so that the last prompts of an epoch are never
//!    dropped. It begins with the first prompt of its order that is not in the batch, does not sit out and was used in
//!    the epoch before: by that repetition the record shows where it began. After it come all others of its order that
//!    are not in the batch and do not sit out.
//! 3. If there are still too few, prompts that sit out fill the batch: first those that the epoch has not used, then
//!    the rest, each in the order of the epoch that was reached.
//!
//! No prompt is twice in a batch. A prompt of weight 0 is never chosen. So with all weights 1 no prompt comes again
//! before every other was used, save that a prompt already in the batch waits for the next one, and a batch is smaller
//! than asked only when it holds every prompt of positive weight.

use std::collections::{HashMap, HashSet};

use rusqlite::Params;

use super::journal::Ledger;
use super::names::unknown;
use super::plan::check_iteration;
use super::seeds::{shuffle_key, sits_out};
use crate::{Error, Result};

impl Ledger {
    /// The mini-batch of `iteration`: `size` train prompts, or all with a positive weight where these are fewer.
    ///
    /// A pure function of the train prompts, the batches of earlier iterations and the arguments; writes nothing.
    /// Weights go by prompt id, from 0 to 1; the default is 1.
    ///
    /// # Errors
    /// `Invalid` for a negative iteration, a size of 0, or a weight outside 0..1 or of an unknown prompt.
    pub fn choose_prompts(
        &self,
        iteration: i64,
        size: usize,
        run_seed: u64,
        weights: &HashMap<String, f64>,
    ) -> Result<Vec<String>> {
        check_iteration(iteration)?;
        let prompts = self.ids(
            "SELECT prompt_id FROM prompts WHERE split = 'train' ORDER BY position",
            (),
        )?;
        let history = self.ids(
            "SELECT prompt_id FROM batches WHERE iteration < ?1 ORDER BY iteration, position",
            [iteration],
        )?;
        check(&prompts, size, weights)?;
        let chosen = choose(&prompts, &history, size, run_seed, weights);
        Ok(chosen.into_iter().map(String::from).collect())
    }

    fn ids(&self, sql: &str, parameters: impl Params) -> Result<Vec<String>> {
        self.reading(|conn| {
            let mut statement = conn.prepare_cached(sql)?;
            let found = statement.query_map(parameters, |row| row.get(0))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }
}

fn check(prompts: &[String], size: usize, weights: &HashMap<String, f64>) -> Result<()> {
    let known: HashSet<&str> = prompts.iter().map(String::as_str).collect();
    // Sorted, so that of several faults the same one is named each time.
    let mut given: Vec<_> = weights.iter().collect();
    given.sort_by_key(|(name, _)| *name);
    for (name, weight) in given {
        if !known.contains(name.as_str()) {
            let names = prompts.iter().map(String::as_str);
            return Err(Error::Invalid(unknown("train prompt", name, names)));
        }
        if !(0.0..=1.0).contains(weight) {
            return Err(Error::Invalid(format!(
                "the weight of prompt {name:?} is {weight}, outside 0 to 1"
            )));
        }
    }
    if size == 0 {
        return Err(Error::Invalid("a mini-batch of size 0".into()));
    }
    Ok(())
}

/// Chooses as the head of this file says. `prompts` by position, `history` all earlier batches one after the other.
#[must_use]
pub fn choose<'a>(
    prompts: &'a [String],
    history: &[String],
    size: usize,
    run_seed: u64,
    weights: &HashMap<String, f64>,
) -> Vec<&'a str> {
    let weight = |id: &str| weights.get(id).copied().unwrap_or(1.0);
    let plays = |epoch: u64, id: &str| !sits_out(run_seed, epoch, id, weight(id));
    let (mut epoch, mut used) = current_epoch(history);
    let mut order = shuffled(prompts, run_seed, epoch);
    let mut batch = Batch::new(size);

    batch.fill(&order, |id| !used.contains(id) && plays(epoch, id));
    if !batch.is_full() {
        let next = shuffled(prompts, run_seed, epoch + 1);
        let first = next
            .iter()
            .find(|id| used.contains(**id) && !batch.holds(id) && plays(epoch + 1, id));
        if let Some(first) = first {
            batch.add(first);
            epoch += 1;
            used.clear();
            order = next;
            batch.fill(&order, |id| plays(epoch, id));
        }
    }
    batch.fill(&order, |id| !used.contains(id) && weight(id) > 0.0);
    batch.fill(&order, |id| weight(id) > 0.0);
    batch.chosen
}

/// The number of the epoch that the history has reached, and the prompts used in it.
fn current_epoch(history: &[String]) -> (u64, HashSet<&str>) {
    let mut epoch = 0;
    let mut used = HashSet::new();
    for id in history {
        if !used.insert(id.as_str()) {
            epoch += 1;
            used.clear();
            used.insert(id.as_str());
        }
    }
    (epoch, used)
}

fn shuffled(prompts: &[String], run_seed: u64, epoch: u64) -> Vec<&str> {
    let mut order: Vec<&str> = prompts.iter().map(String::as_str).collect();
    // Stable, so equal keys stay by position.
    order.sort_by_cached_key(|id| shuffle_key(run_seed, epoch, id));
    order
}

/// A mini-batch in the making: no prompt twice, never more than `size`.
struct Batch<'a> {
    size: usize,
    chosen: Vec<&'a str>,
    held: HashSet<&'a str>,
}

impl<'a> Batch<'a> {
    fn new(size: usize) -> Self {
        Batch {
            size,
            chosen: Vec::new(),
            held: HashSet::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.chosen.len() >= self.size
    }

    fn holds(&self, id: &str) -> bool {
        self.held.contains(id)
    }

    fn add(&mut self, id: &'a str) {
        if !self.is_full() && self.held.insert(id) {
            self.chosen.push(id);
        }
    }

    fn fill(&mut self, order: &[&'a str], wanted: impl Fn(&str) -> bool) {
        for id in order {
            if self.is_full() {
                return;
            }
            if wanted(id) {
                self.add(id);
            }
        }
    }
}
