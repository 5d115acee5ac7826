//! What to sample: the mini-batch of prompts of an iteration, and the draws of every cell. Pure functions.

use super::seeds::{draw_seed, seed};

/// One planned answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// Number of the draw, consecutive over the run.
    pub id: i64,
    /// The prompt to answer.
    pub prompt: String,
    /// The cell that answers.
    pub cell: String,
    /// Which of the cell's answers to this prompt.
    pub draw: i64,
    /// The randomness of the answer.
    pub seed: u64,
    /// Draws of one batch are computed together, all of one cell.
    pub batch: i64,
}

/// What the plan of an iteration depends on.
#[derive(Debug, Clone, Copy)]
pub struct PlanKey<'a> {
    /// The seed of the run.
    pub run_seed: u64,
    /// The iteration, from 1 (0: before training).
    pub iteration: i64,
    /// `train` or `evaluate`.
    pub purpose: &'a str,
}

/// A cell's name, its answers a prompt, and the prompts it answers where those are not all.
pub type CellPlan = (String, i64, Option<Vec<String>>);

/// The draws of all `cells`, cell by cell, prompts in the given order.
#[must_use]
pub fn plan_draws(
    key: PlanKey<'_>,
    first_id: i64,
    prompts: &[String],
    cells: &[CellPlan],
    batch_size: usize,
) -> Vec<Draw> {
    let mut plan = Vec::new();
    let mut batch = 0;
    for (cell, draws, own) in cells {
        let start = plan.len();
        for prompt in own.as_deref().unwrap_or(prompts) {
            for draw in 0..*draws {
                plan.push(Draw {
                    id: first_id + plan.len() as i64,
                    prompt: prompt.clone(),
                    cell: cell.clone(),
                    draw,
                    seed: draw_seed(key.run_seed, key.iteration, key.purpose, prompt, cell, draw),
                    batch: batch + ((plan.len() - start) / batch_size) as i64,
                });
            }
        }
        if plan.len() > start {
            batch += ((plan.len() - start - 1) / batch_size + 1) as i64;
        }
    }
    plan
}

/// A prompt as the choice of a mini-batch sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The prompt.
    pub id: String,
    /// In how many earlier mini-batches it was.
    pub uses: u32,
    /// How often it should come, 0 to 1, in proportion to the others.
    pub weight: f64,
}

/// The mini-batch: up to `size` prompts without replacement.
///
/// Prompts come in the order of `uses / weight`, ties in an order shuffled anew for every use. With all weights 1 this
/// is: every prompt once, in a seeded order, before any comes again; a batch that the end of such a round leaves
/// short is filled from the next round, so none is dropped and none is in a batch twice. A prompt of weight w comes
/// once where the others come 1/w times; one of weight 0 does not come again after its first use.
#[must_use]
pub fn choose_prompts(run_seed: u64, candidates: &[Candidate], size: usize) -> Vec<String> {
    let mut order: Vec<(f64, u64, &str)> = candidates
        .iter()
        .filter(|c| c.uses == 0 || c.weight > 0.0)
        .map(|c| {
            let turn = if c.uses == 0 { 0.0 } else { f64::from(c.uses) / c.weight };
            (
                turn,
                seed(run_seed, &["prompt", &c.uses.to_string(), &c.id]),
                c.id.as_str(),
            )
        })
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    order.into_iter().take(size).map(|c| c.2.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn run(n: usize, size: usize, rounds: usize, weight: impl Fn(usize) -> f64) -> Vec<Vec<String>> {
        let mut uses: HashMap<String, u32> = HashMap::new();
        (0..rounds)
            .map(|_| {
                let candidates: Vec<Candidate> = (0..n)
                    .map(|i| {
                        let id = format!("p{i}");
                        Candidate {
                            uses: uses.get(&id).copied().unwrap_or(0),
                            weight: weight(i),
                            id,
                        }
                    })
                    .collect();
                let batch = choose_prompts(7, &candidates, size);
                for id in &batch {
                    *uses.entry(id.clone()).or_default() += 1;
                }
                batch
            })
            .collect()
    }

    proptest! {
        #[test]
        fn no_prompt_comes_again_before_all_have_come(n in 1usize..30, size in 1usize..12, rounds in 1usize..12) {
            let batches = run(n, size, rounds, |_| 1.0);
            let mut uses = vec![0u32; n];
            for batch in &batches {
                prop_assert_eq!(batch.len(), size.min(n));
                prop_assert_eq!(batch.iter().collect::<HashSet<_>>().len(), batch.len());
                for id in batch {
                    let i: usize = id[1..].parse().map_err(|_| TestCaseError::fail("id"))?;
                    uses[i] += 1;
                }
                let (least, most) = (uses.iter().min(), uses.iter().max());
                prop_assert!(most.zip(least).is_some_and(|(m, l)| m - l <= 1));
            }
        }

        #[test]
        fn plans_hold_every_draw_once_and_batches_hold_one_cell(
            n in 0usize..9, cells in prop::collection::vec(0i64..4, 0..4), batch_size in 1usize..6,
        ) {
            let prompts: Vec<String> = (0..n).map(|i| format!("p{i}")).collect();
            let named: Vec<CellPlan> = cells.iter().enumerate().map(|(i, d)| (format!("c{i}"), *d, None)).collect();
            let key = PlanKey { run_seed: 1, iteration: 2, purpose: "train" };
            let plan = plan_draws(key, 10, &prompts, &named, batch_size);
            prop_assert_eq!(plan.len() as i64, cells.iter().sum::<i64>() * n as i64);
            let mut batches: HashMap<i64, Vec<&Draw>> = HashMap::new();
            for (i, draw) in plan.iter().enumerate() {
                prop_assert_eq!(draw.id, 10 + i as i64);
                batches.entry(draw.batch).or_default().push(draw);
            }
            for batch in batches.values() {
                prop_assert!(batch.len() <= batch_size && batch.iter().all(|d| d.cell == batch[0].cell));
            }
            let numbers: HashSet<i64> = batches.keys().copied().collect();
            prop_assert_eq!(numbers, (0..batches.len() as i64).collect::<HashSet<_>>());
            let keys: HashSet<_> = plan.iter().map(|d| (&d.prompt, &d.cell, d.draw)).collect();
            prop_assert_eq!(keys.len(), plan.len());
        }
    }

    #[test]
    fn a_light_prompt_comes_less_often() {
        let batches = run(4, 1, 26, |i| if i == 0 { 0.25 } else { 1.0 });
        let light = batches.iter().flatten().filter(|id| *id == "p0").count();
        assert_eq!(light, 2);
    }
}
