//! The likeliest subset under a determinantal point process, greedily (Chen, Zhang and Zhou, 2018): each time the text
//! that raises the determinant of the chosen ones' kernel most. The kernel is `quality_i * J(i, j) * quality_j`, which is
//! positive definite for unlike texts, as the Jaccard similarity J is.
//!
//! A text's gain is the squared length of what its vector has beside the chosen ones' span. Each choice adds one column
//! to a Cholesky factor and takes one square off every gain, so no determinant is ever computed.

use rayon::prelude::*;

use super::similarity::Similarity;
use crate::Result;
use crate::run::Stop;

/// A gain below this share of what the text was worth alone is rounding: the text is in the span of the chosen ones.
const NOTHING: f64 = 1e-10;
/// Gains within this share of the largest are equal; rounding would break ties otherwise.
const EQUAL: f64 = 1e-9;
/// Texts of which a thread works out the columns in one go.
const BLOCK: usize = 2048;

/// Up to `k` texts in the order they are chosen; texts worth nothing more come last. The smaller text wins a tie.
pub(crate) fn choose(similarity: &Similarity, quality: &[f64], k: usize, stop: &Stop) -> Result<Vec<usize>> {
    let alone: Vec<f64> = quality.iter().map(|quality| quality * quality).collect();
    let mut gain = alone.clone();
    let mut free = vec![true; gain.len()];
    let (mut factor, mut shared, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
    while chosen.len() < k.min(gain.len()) {
        stop.check()?;
        let Some(text) = best(&gain, &free) else { break };
        free[text] = false;
        chosen.push(text);
        if gain[text] > 0.0 {
            let mut column: Vec<f64> = similarity.to_all(text, &mut shared).collect();
            add_column(&mut column, &factor, quality, text, gain[text].sqrt());
            for ((gain, entry), alone) in gain.iter_mut().zip(&column).zip(&alone) {
                let left = *gain - entry * entry;
                *gain = if left > NOTHING * alone { left } else { 0.0 };
            }
            factor.push(column);
        }
    }
    Ok(chosen)
}

/// From the similarities to a chosen text to its column of the Cholesky factor.
fn add_column(column: &mut [f64], factor: &[Vec<f64>], quality: &[f64], text: usize, root: f64) {
    column.par_chunks_mut(BLOCK).enumerate().for_each(|(block, part)| {
        let first = block * BLOCK;
        for (entry, other) in part.iter_mut().zip(&quality[first..]) {
            *entry *= quality[text] * other;
        }
        for earlier in factor {
            let weight = earlier[text];
            for (entry, earlier) in part.iter_mut().zip(&earlier[first..]) {
                *entry -= weight * earlier;
            }
        }
        part.iter_mut().for_each(|entry| *entry /= root);
    });
}

/// The free text of the largest gain; the first of those that are equal but for rounding.
fn best(gain: &[f64], free: &[bool]) -> Option<usize> {
    let candidates = || (0..gain.len()).filter(|&text| free[text]);
    let most = candidates().map(|text| gain[text]).fold(0.0, f64::max);
    candidates().find(|&text| gain[text] >= most * (1.0 - EQUAL))
}
