//! Which candidate pairs of each prompt become training pairs: good ones, with unlike sides, unlike one another.

use std::collections::HashMap;

use rayon::prelude::*;

use super::select::check_quality;
use super::similarity::{Similarity, check_ngram, check_rows, index_rows};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result};

/// Candidate pairs: entry i is a pair of the rows `a[i]` and `b[i]`, made for `prompt[i]`, worth `quality[i]`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Candidates<'a> {
    pub prompt: &'a [i64],
    pub a: &'a [i64],
    pub b: &'a [i64],
    pub quality: &'a [f64],
}

/// How many pairs to pick.
#[derive(Clone, Copy, Debug)]
pub struct PickOptions {
    /// Pairs per prompt.
    pub max_pairs: usize,
    /// Pairs that may use one response.
    pub max_uses: usize,
    /// Tokens in a shingle.
    pub ngram: usize,
}

/// The candidates picked, by prompt in order of first appearance, within a prompt in the order they were picked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picked {
    /// Numbers of the candidates.
    pub index: Vec<i64>,
    /// Similarity of the two sides of each.
    pub jaccard: Vec<f64>,
}

/// Picks pairs greedily, per prompt, by `quality * (1 - J(a, b)) * (1 - R)`.
///
/// R is the similarity to the most similar pair already picked: two pairs are as similar as their sides are on
/// average, sides matched the better way round. So a second pair with one side in common is at best half as good, and
/// the same pair again is worth nothing. Candidates worth nothing, or with a null response, are never picked; the
/// smaller candidate wins a tie.
///
/// # Errors
/// [`Error::Invalid`] for columns of unlike length, rows out of range, or a quality that is not finite and at least 0;
/// [`Error::Stopped`].
pub fn pick_pairs(texts: &dyn Texts, candidates: Candidates<'_>, options: PickOptions, stop: &Stop) -> Result<Picked> {
    check_ngram(options.ngram)?;
    let count = candidates.prompt.len();
    for (name, length) in [("a", candidates.a.len()), ("b", candidates.b.len())] {
        if length != count {
            return Err(Error::Invalid(format!(
                "{name} has {length} entries for {count} candidates"
            )));
        }
    }
    check_quality(Some(candidates.quality), count)?;
    let a = check_rows("a", candidates.a, texts.rows())?;
    let b = check_rows("b", candidates.b, texts.rows())?;
    let picked: Result<Vec<Vec<(usize, f64)>>> = by_prompt(candidates.prompt)
        .into_par_iter()
        .map(|members| {
            stop.check()?;
            let sides = members.iter().map(|&i| (a[i], b[i])).collect();
            let quality = members.iter().map(|&i| candidates.quality[i]).collect();
            let picked = Prompt::new(texts, sides, quality, options.ngram, stop)?.pick(options);
            Ok(picked
                .into_iter()
                .map(|(member, jaccard)| (members[member], jaccard))
                .collect())
        })
        .collect();
    let (index, jaccard) = picked?
        .into_iter()
        .flatten()
        .map(|(index, jaccard)| (index as i64, jaccard))
        .unzip();
    Ok(Picked { index, jaccard })
}

/// Candidates of each prompt, prompts in order of first appearance.
fn by_prompt(prompts: &[i64]) -> Vec<Vec<usize>> {
    let mut place = HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (candidate, prompt) in prompts.iter().enumerate() {
        let place = *place.entry(prompt).or_insert(members.len());
        if place == members.len() {
            members.push(Vec::new());
        }
        members[place].push(candidate);
    }
    members
}

/// The candidates of one prompt, with responses numbered 0.. .
struct Prompt {
    sides: Vec<(usize, usize)>,
    similarity: Similarity,
    /// Similarity of each candidate's own sides.
    jaccard: Vec<f64>,
    /// quality * (1 - J(a, b)): what the candidate is worth before anything is picked.
    worth: Vec<f64>,
}

impl Prompt {
    fn new(texts: &dyn Texts, rows: Vec<(usize, usize)>, quality: Vec<f64>, ngram: usize, stop: &Stop) -> Result<Self> {
        let mut used: Vec<usize> = rows.iter().flat_map(|&(a, b)| [a, b]).collect();
        used.sort_unstable();
        used.dedup();
        let number = |row: usize| used.partition_point(|&other| other < row);
        let sides: Vec<_> = rows.iter().map(|&(a, b)| (number(a), number(b))).collect();
        let similarity = index_rows(texts, &used, ngram, stop)?;
        let jaccard = between(&similarity, &sides);
        let null = |row: usize| texts.is_null(used[row]);
        let worth = sides
            .iter()
            .zip(quality)
            .zip(&jaccard)
            .map(|((&(a, b), quality), jaccard)| {
                if null(a) || null(b) {
                    0.0
                } else {
                    quality * (1.0 - jaccard)
                }
            });
        Ok(Self {
            worth: worth.collect(),
            sides,
            similarity,
            jaccard,
        })
    }

    fn pick(&self, options: PickOptions) -> Vec<(usize, f64)> {
        let mut uses = vec![0; self.similarity.len()];
        let mut redundancy = vec![0.0f64; self.sides.len()];
        let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
        let mut picked = Vec::new();
        while picked.len() < options.max_pairs {
            let Some(best) = self.best(&redundancy, &uses, options.max_uses) else {
                break;
            };
            let (a, b) = self.sides[best];
            uses[a] += 1;
            uses[b] += 1;
            picked.push((best, self.jaccard[best]));
            let to_a: Vec<f64> = self.similarity.to_all(a, &mut to_a).collect();
            let to_b: Vec<f64> = self.similarity.to_all(b, &mut to_b).collect();
            for (redundancy, &(x, y)) in redundancy.iter_mut().zip(&self.sides) {
                let alike = (to_a[x] + to_b[y]).max(to_a[y] + to_b[x]) / 2.0;
                *redundancy = redundancy.max(alike);
            }
        }
        picked
    }

    /// The most valuable candidate whose responses may still be used, if it is worth anything.
    fn best(&self, redundancy: &[f64], uses: &[usize], max_uses: usize) -> Option<usize> {
        let mut best = (0.0, None);
        for (candidate, &(a, b)) in self.sides.iter().enumerate() {
            let value = self.worth[candidate] * (1.0 - redundancy[candidate]);
            if value > best.0 && uses[a] < max_uses && uses[b] < max_uses {
                best = (value, Some(candidate));
            }
        }
        best.1
    }
}

/// Similarity of each pair of texts. Pairs with the same first text are looked up together.
fn between(similarity: &Similarity, sides: &[(usize, usize)]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|&pair| sides[pair].0);
    let (mut found, mut shared) = (vec![0.0; sides.len()], Vec::new());
    for pairs in order.chunk_by(|&x, &y| sides[x].0 == sides[y].0) {
        let to_all: Vec<f64> = similarity.to_all(sides[pairs[0]].0, &mut shared).collect();
        pairs.iter().for_each(|&pair| found[pair] = to_all[sides[pair].1]);
    }
    found
}
