//! Scores of groups of responses, all groups in parallel.

use rayon::prelude::*;

use super::novelty::novelty;
use super::scored::{GroupScores, Options};
use super::similarity::check_ngram;
use super::vendi::check_order;
use super::workspace::Workspace;
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result};

/// Groups that a thread takes at a time, at least.
const GROUPS: usize = 8;

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
