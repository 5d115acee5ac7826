//! Whether two members are near-duplicates: their whole shingle sets, compared.

use rayon::prelude::*;

use super::Edge;
use super::comparer::Comparer;
use super::corpus::Source;
use crate::Result;
use crate::run::Stop;

/// Couples that a thread compares in one go.
const AT_ONCE: usize = 32;
/// Compares members, with what a thread needs for that.
pub(crate) struct Verifier<'a, S> {
    source: &'a S,
    threshold: f64,
    comparer: Comparer,
    /// The member that the comparer has taken.
    taken: Option<u32>,
    tokens: Vec<u32>,
    shingles: Vec<u64>,
}

impl<'a, S: Source> Verifier<'a, S> {
    pub fn new(source: &'a S, threshold: f64) -> Self {
        Self {
            source,
            threshold,
            comparer: Comparer::default(),
            taken: None,
            tokens: Vec::new(),
            shingles: Vec::new(),
        }
    }

    /// The link between two members of the same group, if they reach the threshold. Quickest where `i` stays the same for
    /// a while.
    pub fn link(&mut self, i: u32, j: u32) -> Result<Option<Edge>> {
        if self.taken != Some(i) {
            self.taken = None;
            self.comparer
                .take(self.source.windows(i, &mut self.tokens, &mut self.shingles)?);
            self.taken = Some(i);
        }
        let other = self.source.windows(j, &mut self.tokens, &mut self.shingles)?;
        let found = self.comparer.jaccard_from(other, self.threshold);
        Ok(found.map(|jaccard| Edge {
            i: i.min(j),
            j: i.max(j),
            jaccard,
        }))
    }

    fn links(&mut self, couples: &[(u32, u32)]) -> Result<Vec<Edge>> {
        let members = couples.iter().flat_map(|&(i, j)| [i, j]);
        self.source.fetch(members, &mut self.tokens);
        couples
            .iter()
            .filter_map(|&(i, j)| self.link(i, j).transpose())
            .collect()
    }
}

/// The links between those couples of members that reach the threshold, in the order of the couples.
pub(crate) fn links<S: Source>(source: &S, threshold: f64, couples: &[(u32, u32)], stop: &Stop) -> Result<Vec<Edge>> {
    let found: Result<Vec<Vec<Edge>>> = couples
        .par_chunks(AT_ONCE)
        .map_init(
            || Verifier::new(source, threshold),
            |verifier, couples| {
                stop.check()?;
                verifier.links(couples)
            },
        )
        .collect();
    Ok(found?.concat())
}
