//! What is scored of a group, and the scores.

use crate::ragged::Texts;

/// N-gram orders that distinct-n, entropy and self-BLEU look at: 1 to this.
pub const ORDERS: usize = 4;

/// Which scores to compute; the others stay NaN.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// Distinct n-grams over all n-grams of the group.
    pub distinct: bool,
    /// Shannon entropy of the group's n-grams, in bits.
    pub entropy: bool,
    /// Self-BLEU-4.
    pub self_bleu: bool,
    /// Mean pairwise Jaccard similarity of shingle sets.
    pub jaccard: bool,
    /// Vendi score of the n-gram kernel.
    pub vendi: bool,
}

/// What is scored, and how.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)]
pub struct Options<'a> {
    /// Which scores.
    pub scores: Scores,
    /// Shingle length of the Jaccard similarity and of novelty.
    pub ngram: usize,
    /// Order q of the Vendi score: above 0, 1 for Shannon's entropy, infinity for the largest eigenvalue alone.
    pub order: f64,
    /// Texts that novelty is taken against; without them there is none.
    pub history: Option<&'a dyn Texts>,
}

/// The scores of one group. NaN where a score is not defined (too few texts or tokens) or was not asked for.
#[derive(Clone, Copy, Debug)]
pub struct GroupScores {
    /// The group.
    pub group: i64,
    /// Rows of the group that are not null.
    pub responses: i64,
    /// Tokens of those rows.
    pub tokens: i64,
    /// distinct-1 to distinct-4.
    pub distinct: [f64; ORDERS],
    /// Entropy of 1-grams to 4-grams.
    pub entropy: [f64; ORDERS],
    /// Self-BLEU-4.
    pub self_bleu: f64,
    /// Mean pairwise Jaccard similarity.
    pub jaccard: f64,
    /// Vendi score.
    pub vendi: f64,
    /// Mean novelty against the history.
    pub novelty: f64,
}

impl GroupScores {
    pub(super) fn new(group: i64) -> Self {
        Self {
            group,
            responses: 0,
            tokens: 0,
            distinct: [f64::NAN; ORDERS],
            entropy: [f64::NAN; ORDERS],
            self_bleu: f64::NAN,
            jaccard: f64::NAN,
            vendi: f64::NAN,
            novelty: f64::NAN,
        }
    }
}
