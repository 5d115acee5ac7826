//! Scores of groups of responses, all groups in parallel.

use rayon::prelude::*;

use super::novelty::novelty;
use super::similarity::check_ngram;
use super::vendi::check_order;
use super::workspace::Workspace;
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result};

/// N-gram orders that distinct-n, entropy and self-BLEU look at: 1 to this.
pub const ORDERS: usize = 4;
/// Groups that a thread takes at a time, at least.
const GROUPS: usize = 8;

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
    fn new(group: i64) -> Self {
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

/// Scores each group, ascending by group.
///
/// # Errors
/// [`Error::Invalid`] for a group column of another length, an ngram of 0, an order that is not above 0, and a group that
/// is too large for a score; [`Error::Stopped`].
pub fn diversity(texts: &dyn Texts, groups: &[i64], options: Options<'_>, stop: &Stop) -> Result<Vec<GroupScores>> {
    check_ngram(options.ngram)?;
    check_order(options.order)?;
    if groups.len() != texts.rows() {
        return Err(Error::Invalid(format!(
            "groups has {} entries for {} rows",
            groups.len(),
            texts.rows()
        )));
    }
    let novelty = match options.history {
        Some(history) => Some(novelty(texts, history, options.ngram, stop)?),
        None => None,
    };
    let mut rows: Vec<(i64, u32)> = groups
        .iter()
        .enumerate()
        .map(|(row, &group)| (group, row as u32))
        .collect();
    let score = |space: &mut Workspace, run: &[(i64, u32)]| {
        let mut result = GroupScores::new(run[0].0);
        space.read(texts, run.iter().map(|&(_, row)| row as usize), stop)?;
        space.score(options, &mut result, stop)?;
        if let Some(novelty) = &novelty {
            result.novelty = mean(run.iter().map(|&(_, row)| novelty[row as usize]));
        }
        Ok(result)
    };
    if is_small(rows.len(), (0..rows.len()).map(|row| texts.length(row)).sum()) {
        rows.sort_unstable();
        let mut space = Workspace::default();
        return rows
            .chunk_by(|a, b| a.0 == b.0)
            .map(|run| score(&mut space, run))
            .collect();
    }
    rows.par_sort_unstable();
    let runs: Vec<_> = rows.chunk_by(|a, b| a.0 == b.0).collect();
    runs.into_par_iter()
        .with_min_len(GROUPS)
        .map_init(Workspace::default, score)
        .collect()
}

/// Whether so many rows with so many tokens are scored on the calling thread, with no other one, where there is no
/// history: that takes a tenth of a second at most, and starting threads would take longer than the scores of one prompt.
pub fn is_small(rows: usize, tokens: usize) -> bool {
    rows <= 512 && tokens <= 1 << 17
}

/// Mean of the values that are numbers; NaN without any.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let known = values.filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}
