//! A diverse subset of texts, chosen greedily: each time the text that is farthest from those already chosen.

use rayon::prelude::*;

use super::similarity::{Similarity, check_ngram, set_of};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result};

/// Up to `k` rows in the order they are chosen: first the one of the highest quality, then each time the one with the
/// largest `quality * (1 - similarity to the most similar chosen row)`. The smaller row wins a tie. Null rows are never
/// chosen; copies of chosen rows, being worth nothing more, come last.
///
/// # Errors
/// [`Error::Invalid`] for a quality column of another length or with negative or infinite values; [`Error::Stopped`].
pub fn select_diverse(
    texts: &dyn Texts,
    k: usize,
    quality: Option<&[f64]>,
    ngram: usize,
    stop: &Stop,
) -> Result<Vec<i64>> {
    check_ngram(ngram)?;
    check_quality(quality, texts.rows())?;
    let rows: Vec<usize> = (0..texts.rows()).filter(|&row| !texts.is_null(row)).collect();
    let sets: Vec<_> = rows.par_iter().filter_map(|&row| set_of(texts, row, ngram)).collect();
    let similarity = Similarity::new(sets);
    let quality: Vec<f64> = rows
        .iter()
        .map(|&row| quality.map_or(1.0, |quality| quality[row]))
        .collect();
    let mut distance = vec![1.0f64; rows.len()];
    let mut free = vec![true; rows.len()];
    let mut shared = Vec::new();
    let mut chosen = Vec::new();
    while chosen.len() < k.min(rows.len()) {
        stop.check()?;
        let mut best: Option<(f64, usize)> = None;
        for text in (0..rows.len()).filter(|&text| free[text]) {
            let score = quality[text] * distance[text];
            if best.is_none_or(|best| score > best.0) {
                best = Some((score, text));
            }
        }
        let Some((_, text)) = best else { break };
        free[text] = false;
        chosen.push(rows[text] as i64);
        for (distance, similarity) in distance.iter_mut().zip(similarity.to_all(text, &mut shared)) {
            *distance = distance.min(1.0 - similarity);
        }
    }
    Ok(chosen)
}

pub(crate) fn check_quality(quality: Option<&[f64]>, rows: usize) -> Result<()> {
    let Some(quality) = quality else {
        return Ok(());
    };
    if quality.len() != rows {
        return Err(Error::Invalid(format!(
            "quality has {} entries for {rows} rows",
            quality.len()
        )));
    }
    match quality.iter().position(|value| !(value.is_finite() && *value >= 0.0)) {
        Some(row) => Err(Error::Invalid(format!(
            "quality {row} is {}; it has to be finite and at least 0",
            quality[row]
        ))),
        None => Ok(()),
    }
}
