//! Mini-batches, held equal to a twin that keeps its state in memory instead of reading it off the record.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use std::collections::{BTreeMap, HashMap};

use ledger_support::{rows, run_with_prompts, text};
use proptest::prelude::*;
use tso_core::ledger::{Ledger, Value, choose, shuffle_key, sits_out};

/// The rules as the head of `batches.rs` tells them, one candidate at a time.
struct Twin {
    prompts: Vec<String>,
    seed: u64,
    epoch: u64,
    used: Vec<String>,
}

impl Twin {
    fn order(&self, epoch: u64) -> Vec<String> {
        let keyed = self.prompts.iter().enumerate();
        let keyed = keyed.map(|(at, id)| ((shuffle_key(self.seed, epoch, id), at), id.clone()));
        keyed.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    fn take(&mut self, id: &str, batch: &mut Vec<String>) {
        if self.used.iter().any(|used| used == id) {
            self.epoch += 1;
            self.used.clear();
        }
        self.used.push(id.into());
        batch.push(id.into());
    }

    fn next(&mut self, size: usize, weights: &HashMap<String, f64>) -> Vec<String> {
        let weight = |id: &String| weights.get(id).copied().unwrap_or(1.0);
        let (seed, mut batch) = (self.seed, Vec::new());
        for id in self.order(self.epoch) {
            let out = sits_out(seed, self.epoch, &id, weight(&id));
            if batch.len() < size && !self.used.contains(&id) && !out {
                self.take(&id, &mut batch);
            }
        }
        let next = self.epoch + 1;
        let free = |batch: &[String], id: &String| !batch.contains(id) && !sits_out(seed, next, id, weight(id));
        let order = self.order(next);
        let first = order.iter().find(|id| self.used.contains(id) && free(&batch, id));
        if let Some(first) = first.filter(|_| batch.len() < size) {
            self.take(first, &mut batch);
            for id in &order {
                if batch.len() < size && free(&batch, id) {
                    self.take(id, &mut batch);
                }
            }
        }
        let order = self.order(self.epoch);
        let unused: Vec<_> = order.iter().filter(|id| !self.used.contains(id)).collect();
        for id in unused.into_iter().chain(&order) {
            if batch.len() < size && !batch.contains(id) && weight(id) > 0.0 {
                self.take(id, &mut batch);
            }
        }
        batch
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("p{at}")).collect()
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(1.0), 1 => Just(0.0), 1 => Just(0.25), 2 => 0.0..=1.0]
}

proptest! {
    #[test]
    fn the_record_tells_as_much_as_a_state_would(
        seed: u64,
        count in 1_usize..30,
        calls in prop::collection::vec((1_usize..12, prop::collection::vec(weight(), 30)), 1..25),
    ) {
        let prompts = names(count);
        let mut twin = Twin { prompts: prompts.clone(), seed, epoch: 0, used: vec![] };
        let mut history: Vec<String> = vec![];
        for (size, weights) in calls {
            let weights: HashMap<_, _> = prompts.iter().cloned().zip(weights).collect();
            let batch = choose(&prompts, &history, size, seed, &weights);
            prop_assert_eq!(&batch, &twin.next(size, &weights));
            let positive = weights.values().filter(|weight| **weight > 0.0).count();
            prop_assert_eq!(batch.len(), size.min(positive));
            prop_assert!(batch.iter().all(|id| weights[*id] > 0.0));
            let mut distinct = batch.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), batch.len());
            history.extend(batch.into_iter().map(String::from));
        }
    }

    #[test]
    fn without_weights_no_prompt_is_ever_two_uses_ahead(
        seed: u64,
        count in 1_usize..40,
        sizes in prop::collection::vec(1_usize..15, 1..40),
    ) {
        let prompts = names(count);
        let mut history: Vec<String> = vec![];
        let mut uses: HashMap<String, u32> = prompts.iter().map(|id| (id.clone(), 0)).collect();
        for size in sizes {
            let batch = choose(&prompts, &history, size, seed, &HashMap::new());
            prop_assert_eq!(batch.len(), size.min(count));
            let batch: Vec<String> = batch.into_iter().map(String::from).collect();
            for id in &batch {
                *uses.get_mut(id).unwrap() += 1;
            }
            history.extend(batch);
            let (least, most) = (uses.values().min().unwrap(), uses.values().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", uses);
        }
    }
}

#[test]
fn a_lighter_prompt_comes_less_often() {
    let prompts = names(50);
    let weights: HashMap<_, _> = prompts[..10].iter().map(|id| (id.clone(), 0.25)).collect();
    let mut history: Vec<String> = vec![];
    for _ in 0..1000 {
        let batch = choose(&prompts, &history, 5, 3, &weights);
        let batch: Vec<String> = batch.into_iter().map(String::from).collect();
        history.extend(batch);
    }
    let uses = |range: &[String]| {
        let found = history.iter().filter(|id| range.contains(id)).count();
        found as f64 / range.len() as f64
    };
    let share = uses(&prompts[..10]) / uses(&prompts[10..]);
    assert!((0.21..0.29).contains(&share), "{share}");
}

fn record(ledger: &mut Ledger, iteration: i64, batch: &[String]) {
    let row = |(at, id): (usize, &String)| vec![Value::Int(iteration), Value::Int(at as i64), text(id)];
    let batch = batch.iter().enumerate().map(row).collect();
    let batch = rows("batches", &["iteration", "position", "prompt_id"], batch);
    ledger.write(iteration, "choose", 0, "", &[batch]).unwrap();
}

#[test]
fn the_ledger_chooses_from_what_is_recorded() {
    let mut run = run_with_prompts(7, 3);
    let none = HashMap::new();
    let mut seen: Vec<String> = vec![];
    for iteration in 0..3 {
        let batch = run.ledger.choose_prompts(iteration, 3, 17, &none).unwrap();
        assert_eq!(batch.len(), 3);
        record(&mut run.ledger, iteration, &batch);
        let again = run.ledger.choose_prompts(iteration, 3, 17, &none).unwrap();
        assert_eq!(again, batch, "later batches do not count");
        seen.extend(batch);
    }
    let mut first: Vec<_> = seen[..7].to_vec();
    first.sort();
    assert_eq!(
        first,
        names(7),
        "held-out prompts are never chosen, and none of the epoch is dropped"
    );
    let other = run.ledger.choose_prompts(0, 7, 18, &none).unwrap();
    assert_ne!(other, run.ledger.choose_prompts(0, 7, 17, &none).unwrap());
    assert_eq!(run.ledger.choose_prompts(0, 100, 17, &none).unwrap().len(), 7);
}

#[test]
fn what_cannot_be_chosen_from_is_refused_by_name() {
    let run = run_with_prompts(2, 1);
    let weights = |pairs: &[(&str, f64)]| -> HashMap<String, f64> {
        pairs.iter().map(|(id, weight)| ((*id).into(), *weight)).collect()
    };
    let error = run.ledger.choose_prompts(-1, 1, 1, &weights(&[])).unwrap_err();
    assert!(error.to_string().contains("iteration -1"), "{error}");
    for (size, weights, says) in [
        (0, weights(&[]), "size 0"),
        (1, weights(&[("p2", 1.0)]), r#"unknown train prompt "p2""#),
        (1, weights(&[("p1", 1.5)]), r#"the weight of prompt "p1" is 1.5"#),
        (1, weights(&[("p1", f64::NAN)]), "is NaN"),
    ] {
        let error = run.ledger.choose_prompts(0, size, 1, &weights).unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}
