//! Whether two members are near-duplicates: their whole shingle sets, compared.

use std::hint::black_box;

use rayon::prelude::*;

use super::Edge;
use super::near::Corpus;
use crate::Result;
use crate::run::Stop;
use crate::shingle::Comparer;

/// Couples that a thread compares in one go.
const AT_ONCE: usize = 32;
/// Tokens in a cache line.
const LINE: usize = 16;

/// Compares members of a corpus, with what a thread needs for that.
pub(crate) struct Verifier<'a> {
    corpus: &'a Corpus<'a>,
    threshold: f64,
    comparer: Comparer,
    /// The member that the comparer has taken.
    taken: Option<u32>,
    tokens: Vec<u32>,
    shingles: Vec<u64>,
}

impl<'a> Verifier<'a> {
    pub fn new(corpus: &'a Corpus<'a>, threshold: f64) -> Self {
        Self {
            corpus,
            threshold,
            comparer: Comparer::default(),
            taken: None,
            tokens: Vec::new(),
            shingles: Vec::new(),
        }
    }

    /// The link between two members of the same group, if they reach the threshold. Quickest where `i` stays the same for
    /// a while.
    pub fn link(&mut self, i: u32, j: u32) -> Option<Edge> {
        if self.taken != Some(i) {
            self.comparer
                .take(self.corpus.windows(i, &mut self.tokens, &mut self.shingles));
            self.taken = Some(i);
        }
        let other = self.corpus.windows(j, &mut self.tokens, &mut self.shingles);
        let jaccard = self.comparer.jaccard_from(other, self.threshold)?;
        Some(Edge {
            i: i.min(j),
            j: i.max(j),
            jaccard,
        })
    }

    /// Has a member's tokens brought near, without waiting for them: texts lie far apart in memory, and one look at many of
    /// them costs hardly more than one at a single text.
    fn fetch(&mut self, member: u32) -> u32 {
        let tokens = self.corpus.tokens(member, &mut self.tokens);
        tokens.iter().step_by(LINE).fold(0, |all, token| all ^ token)
    }
}

/// The links between those couples of members that reach the threshold, in the order of the couples.
pub(crate) fn links(corpus: &Corpus<'_>, threshold: f64, couples: &[(u32, u32)], stop: &Stop) -> Result<Vec<Edge>> {
    let found: Result<Vec<Vec<Edge>>> = couples
        .par_chunks(AT_ONCE)
        .map_init(
            || Verifier::new(corpus, threshold),
            |verifier, couples| {
                stop.check()?;
                black_box(
                    couples
                        .iter()
                        .fold(0, |all, &(i, j)| all ^ verifier.fetch(i) ^ verifier.fetch(j)),
                );
                Ok(couples.iter().filter_map(|&(i, j)| verifier.link(i, j)).collect())
            },
        )
        .collect();
    Ok(found?.concat())
}
