//! Scores of groups of responses, all groups in parallel.

use rayon::prelude::*;

use super::bleu::Matched;
use super::ngrams::{Group, Walk};
use super::similarity::{Similarity, check_ngram};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result, shingle};

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
}

/// Scores each group, ascending by group. `ngram` is the shingle length of the Jaccard similarity.
///
/// # Errors
/// [`Error::Invalid`] for a group column of another length and an ngram of 0; [`Error::Stopped`].
pub fn diversity(
    texts: &dyn Texts,
    groups: &[i64],
    ngram: usize,
    scores: Scores,
    stop: &Stop,
) -> Result<Vec<GroupScores>> {
    check_ngram(ngram)?;
    if groups.len() != texts.rows() {
        return Err(Error::Invalid(format!(
            "groups has {} entries for {} rows",
            groups.len(),
            texts.rows()
        )));
    }
    let mut rows: Vec<(i64, u32)> = groups
        .iter()
        .enumerate()
        .map(|(row, &group)| (group, row as u32))
        .collect();
    rows.par_sort_unstable();
    let runs: Vec<_> = rows.chunk_by(|a, b| a.0 == b.0).collect();
    runs.into_par_iter()
        .map(|run| score(texts, run, ngram, scores, stop))
        .collect()
}

fn score(texts: &dyn Texts, rows: &[(i64, u32)], ngram: usize, scores: Scores, stop: &Stop) -> Result<GroupScores> {
    let (mut group, mut sets, mut buffer) = (Group::new(), Vec::new(), Vec::new());
    for &(_, row) in rows {
        stop.check()?;
        if let Some(tokens) = texts.read(row as usize, &mut buffer) {
            group.push(tokens);
            if scores.jaccard {
                sets.push(shingle::set(tokens, ngram));
            }
        }
    }
    if u32::try_from(group.tokens.len()).is_err() {
        return Err(Error::Invalid(format!(
            "group {} has more than 4,294,967,295 tokens",
            rows[0].0
        )));
    }
    let mut result = GroupScores {
        group: rows[0].0,
        responses: group.texts() as i64,
        tokens: group.tokens.len() as i64,
        distinct: [f64::NAN; ORDERS],
        entropy: [f64::NAN; ORDERS],
        self_bleu: f64::NAN,
        jaccard: f64::NAN,
    };
    if scores.distinct || scores.entropy || scores.self_bleu {
        count(&group, scores, &mut result, stop)?;
    }
    if scores.jaccard {
        result.jaccard = Similarity::new(sets).mean(stop)?.unwrap_or(f64::NAN);
    }
    Ok(result)
}

/// The scores that come from one walk over the group's n-grams.
fn count(group: &Group, scores: Scores, result: &mut GroupScores, stop: &Stop) -> Result<()> {
    let mut matched = Matched::new(group.texts());
    let mut walk = Walk::new(group);
    for order in 1..=ORDERS {
        stop.check()?;
        let (mut distinct, mut all, mut weighted) = (0u64, 0u64, 0.0);
        walk.next_order(|counts| {
            let count: u64 = counts.iter().map(|&(_, count)| u64::from(count)).sum();
            distinct += 1;
            all += count;
            weighted += count as f64 * (count as f64).log2();
            if scores.self_bleu {
                matched.add(order, counts);
            }
        });
        if all > 0 && scores.distinct {
            result.distinct[order - 1] = distinct as f64 / all as f64;
        }
        if all > 0 && scores.entropy {
            // -sum(p log p) with p = count / all; rounding may leave a tiny negative number.
            result.entropy[order - 1] = ((all as f64).log2() - weighted / all as f64).max(0.0);
        }
    }
    if scores.self_bleu {
        result.self_bleu = matched.mean_bleu(group).unwrap_or(f64::NAN);
    }
    Ok(())
}
