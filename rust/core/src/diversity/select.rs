//! A diverse subset of texts, chosen greedily.

use super::dpp;
use super::similarity::{Similarity, check_ngram, index_rows};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result};

/// How the next text is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The one with the largest `quality * (1 - similarity to the most similar chosen one)`.
    MaxMin,
    /// The one that raises the determinant of the chosen ones' kernel `quality_i * similarity_ij * quality_j` most: the
    /// greedy maximum of a determinantal point process.
    Dpp,
}

/// Up to `k` rows in the order they are chosen: first the one of the highest quality, then as the method says. The
/// smaller row wins a tie. Null rows are never chosen; copies of chosen rows, being worth nothing more, come last.
///
/// # Errors
/// [`Error::Invalid`] for a quality column of another length or with negative or infinite values; [`Error::Stopped`].
pub fn select_diverse(
    texts: &dyn Texts,
    k: usize,
    method: Method,
    quality: Option<&[f64]>,
    ngram: usize,
    stop: &Stop,
) -> Result<Vec<i64>> {
    check_ngram(ngram)?;
    check_quality(quality, texts.rows())?;
    let rows: Vec<usize> = (0..texts.rows()).filter(|&row| !texts.is_null(row)).collect();
    let similarity = index_rows(texts, &rows, ngram, stop)?;
    let quality: Vec<f64> = rows
        .iter()
        .map(|&row| quality.map_or(1.0, |quality| quality[row]))
        .collect();
    let chosen = match method {
        Method::MaxMin => max_min(&similarity, &quality, k, stop),
        Method::Dpp => dpp::choose(&similarity, &scaled(quality), k, stop),
    };
    Ok(chosen?.into_iter().map(|text| rows[text] as i64).collect())
}

/// Qualities of at most 1, so that their squares are finite: a common factor changes no choice.
fn scaled(mut quality: Vec<f64>) -> Vec<f64> {
    let largest = quality.iter().copied().fold(0.0, f64::max);
    if largest > 0.0 {
        quality.iter_mut().for_each(|quality| *quality /= largest);
    }
    quality
}

fn max_min(similarity: &Similarity, quality: &[f64], k: usize, stop: &Stop) -> Result<Vec<usize>> {
    let mut distance = vec![1.0f64; quality.len()];
    let mut free = vec![true; quality.len()];
    let (mut shared, mut chosen) = (Vec::new(), Vec::new());
    while chosen.len() < k.min(quality.len()) {
        stop.check()?;
        let mut best: Option<(f64, usize)> = None;
        for text in (0..quality.len()).filter(|&text| free[text]) {
            let score = quality[text] * distance[text];
            if best.is_none_or(|best| score > best.0) {
                best = Some((score, text));
            }
        }
        let Some((_, text)) = best else { break };
        free[text] = false;
        chosen.push(text);
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
