//! Which distinct pairs match one another, in the same order of their sides or in the opposite one.

use rayon::prelude::*;

use super::Edge;
use super::cluster::Neighbours;
use crate::Result;
use crate::run::Stop;

/// A distinct pair: nodes of its prompt, its chosen and its rejected side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Triple {
    pub prompt: u32,
    pub chosen: u32,
    pub rejected: u32,
}

/// The links found: `i < j`, numbers of distinct pairs. The similarity is that of the least similar part; of reversed
/// ones, that of the less similar sides.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub forward: Vec<Edge>,
    pub reversed: Vec<Edge>,
}

/// Distinct pairs with look-ups by each of their parts.
pub(crate) struct Matcher<'a> {
    pairs: &'a [Triple],
    prompts: &'a Neighbours,
    sides: &'a Neighbours,
    by_prompt: Lookup,
    by_chosen: Lookup,
    by_rejected: Lookup,
}

impl<'a> Matcher<'a> {
    pub fn new(pairs: &'a [Triple], prompts: &'a Neighbours, sides: &'a Neighbours) -> Self {
        Self {
            pairs,
            prompts,
            sides,
            by_prompt: Lookup::new(pairs, |pair| pair.prompt),
            by_chosen: Lookup::new(pairs, |pair| pair.chosen),
            by_rejected: Lookup::new(pairs, |pair| pair.rejected),
        }
    }

    /// All matches, ascending.
    ///
    /// Where the sides of a pair are themselves similar, two pairs can match in both orders: the order that fits
    /// better counts, and the same order where both fit alike.
    pub fn search(&self, stop: &Stop) -> Result<Matches> {
        let found: Result<Vec<Matches>> = (0..self.pairs.len() as u32)
            .into_par_iter()
            .map_init(Vec::new, |met, pair| {
                stop.check()?;
                Ok(self.of_pair(pair, met))
            })
            .collect();
        let mut all = Matches::default();
        for matches in found? {
            all.forward.extend(matches.forward);
            all.reversed.extend(matches.reversed);
        }
        Ok(all)
    }

    fn of_pair(&self, i: u32, met: &mut Vec<u32>) -> Matches {
        let mut matches = Matches::default();
        let pair = self.pairs[i as usize];
        met.clear();
        self.candidates(pair, i, met);
        self.candidates(
            Triple {
                chosen: pair.rejected,
                rejected: pair.chosen,
                ..pair
            },
            i,
            met,
        );
        met.sort_unstable();
        met.dedup();
        for &j in met.iter() {
            let other = self.pairs[j as usize];
            let Some(prompt) = self.prompts.between(pair.prompt, other.prompt) else {
                continue;
            };
            // A prompt is as similar in both orders, and would hide which of them fits better.
            let forward = self.of_sides(pair, other.chosen, other.rejected);
            let reversed = self.of_sides(pair, other.rejected, other.chosen);
            match (forward, reversed) {
                (forward, Some(jaccard)) if forward.is_none_or(|same| jaccard > same) => {
                    matches.reversed.push(Edge { i, j, jaccard });
                }
                (Some(same), _) => {
                    let jaccard = prompt.min(same);
                    matches.forward.push(Edge { i, j, jaccard });
                }
                _ => {}
            }
        }
        matches
    }

    /// Later pairs that agree with `wanted` in the part that the fewest pairs have: constant prompts or a constant
    /// refusal as one side would otherwise bring all pairs together.
    fn candidates(&self, wanted: Triple, after: u32, met: &mut Vec<u32>) {
        let parts = [
            (self.prompts, &self.by_prompt, wanted.prompt),
            (self.sides, &self.by_chosen, wanted.chosen),
            (self.sides, &self.by_rejected, wanted.rejected),
        ];
        let fewest = parts
            .into_iter()
            .min_by_key(|(near, lookup, node)| lookup.count(near, *node));
        if let Some((near, lookup, node)) = fewest {
            lookup.visit(near, node, |pairs| {
                met.extend(pairs.iter().filter(|&&pair| pair > after))
            });
        }
    }

    /// The similarity of the less similar sides of a pair and another one, whose sides these are.
    fn of_sides(&self, pair: Triple, chosen: u32, rejected: u32) -> Option<f64> {
        let chosen = self.sides.between(pair.chosen, chosen)?;
        let rejected = self.sides.between(pair.rejected, rejected)?;
        Some(chosen.min(rejected))
    }
}

/// The distinct pairs that have a node as one of their parts.
struct Lookup(Vec<(u32, u32)>, Vec<u32>);

impl Lookup {
    fn new(pairs: &[Triple], part: impl Fn(&Triple) -> u32) -> Self {
        let mut entries: Vec<(u32, u32)> = pairs
            .iter()
            .enumerate()
            .map(|(i, pair)| (part(pair), i as u32))
            .collect();
        entries.sort_unstable();
        let pairs = entries.iter().map(|entry| entry.1).collect();
        Self(entries, pairs)
    }

    fn of(&self, node: u32) -> &[u32] {
        let start = self.0.partition_point(|entry| entry.0 < node);
        let end = self.0.partition_point(|entry| entry.0 <= node);
        &self.1[start..end]
    }

    fn visit<'a>(&'a self, near: &Neighbours, node: u32, mut each: impl FnMut(&'a [u32])) {
        each(self.of(node));
        near.of(node).iter().for_each(|link| each(self.of(link.0)));
    }

    fn count(&self, near: &Neighbours, node: u32) -> usize {
        let mut count = 0;
        self.visit(near, node, |pairs| count += pairs.len());
        count
    }
}
