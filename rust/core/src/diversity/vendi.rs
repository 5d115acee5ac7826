//! Vendi score (Friedman and Dieng, 2023): how many different texts a group is worth. It is the exponential of the
//! Renyi entropy of order q of the eigenvalues of K / n, where K holds the similarities of n texts.
//!
//! The similarity is that of `ngram_vendi_score` in the package vendi-score: the cosine of the n-gram counts, averaged
//! over n = 1..4. There a text shorter than four tokens is less than similar to itself and the eigenvalues do not add
//! up to 1; so K is divided by its diagonal here (what that package does for `normalize=True`), which changes nothing for
//! longer texts. Texts without tokens are equal to each other and share nothing with others.

use super::eigen::{Scratch, eigenvalues};
use super::ngrams::Occurrences;
use crate::run::Stop;
use crate::{Error, Result};

/// Texts that a group may have: two squares of that side are 1.6 GB.
pub(crate) const MOST: usize = 10_000;

/// Similarities of a group's texts, added up order by order. Keeps its memory from group to group.
#[derive(Default)]
pub(crate) struct Kernel {
    size: usize,
    /// Upper triangle, row by row: the products of counts of one order, which are whole numbers.
    products: Vec<f64>,
    /// Upper triangle: the sum of cosines.
    cosines: Vec<f64>,
    /// One over the lengths of the texts' counts in one order; 0 where there are none.
    lengths: Vec<f64>,
    /// In how many orders each text has n-grams: its similarity to itself before the division.
    orders: Vec<f64>,
    scratch: Scratch,
}

impl Kernel {
    /// Begins a group of so many texts.
    pub fn start(&mut self, size: usize) {
        self.size = size;
        for part in [&mut self.products, &mut self.cosines] {
            part.clear();
            part.resize(size * size, 0.0);
        }
        self.orders.clear();
        self.orders.resize(size, 0.0);
    }

    /// Counts one n-gram that the group has more than once.
    pub fn add(&mut self, counts: Occurrences<'_>) {
        for (place, &(text, count)) in counts.iter().enumerate() {
            let row = &mut self.products[text as usize * self.size..][..self.size];
            for &(other, times) in &counts[place..] {
                row[other as usize] += f64::from(count) * f64::from(times);
            }
        }
    }

    /// Ends an order. `once`: for each text, how many n-grams it has that nothing else in the group has.
    pub fn end_order(&mut self, once: &[u32]) {
        let size = self.size;
        self.lengths.clear();
        for (text, &once) in once.iter().enumerate() {
            let squares = self.products[text * size + text] + f64::from(once);
            self.lengths
                .push(if squares > 0.0 { 1.0 / squares.sqrt() } else { 0.0 });
            self.orders[text] += f64::from(u8::from(squares > 0.0));
        }
        for (text, &length) in self.lengths.iter().enumerate() {
            let row = text * size..(text + 1) * size;
            let (cosines, products) = (&mut self.cosines[row.clone()], &mut self.products[row]);
            for ((cosine, product), other) in cosines.iter_mut().zip(products).zip(&self.lengths) {
                *cosine += *product * length * other;
                *product = 0.0;
            }
        }
    }

    /// The score, from 1 to the number of texts; `None` where there is no text.
    pub fn score(&mut self, order: f64, stop: &Stop) -> Result<Option<f64>> {
        for (text, row) in self.cosines.chunks_exact_mut(self.size.max(1)).enumerate() {
            for (other, entry) in row.iter_mut().enumerate().skip(text) {
                let (mine, others) = (self.orders[text], self.orders[other]);
                if text == other || mine.max(others) == 0.0 {
                    *entry = 1.0;
                } else if mine.min(others) > 0.0 {
                    *entry /= (mine * others).sqrt();
                }
            }
        }
        let values = eigenvalues(&mut self.cosines, self.size, &mut self.scratch, stop)?;
        Ok((self.size > 0).then(|| effective_number(values, order)))
    }
}

/// The exponential of the Renyi entropy of the eigenvalues, taken as shares of their sum, which is their number.
fn effective_number(values: &[f64], order: f64) -> f64 {
    let count = values.len() as f64;
    let largest = values.iter().copied().fold(0.0, f64::max) / count;
    // What rounding leaves of an eigenvalue of 0 would count for much in an order near 0.
    let noise = count * f64::EPSILON * largest;
    let shares = values.iter().map(|value| value / count).filter(|&share| share > noise);
    let entropy = if order == f64::INFINITY {
        -largest.ln()
    } else if (order - 1.0).abs() < 0.1 {
        near_one(shares, order - 1.0)
    } else {
        let sum: f64 = shares.map(|share| (share / largest).powf(order)).sum();
        (order * largest.ln() + sum.ln()) / (1.0 - order)
    };
    entropy.exp().clamp(1.0, count)
}

/// ln(sum of p^(1 + d)) / -d without the loss of digits at small d, where it becomes Shannon's entropy.
fn near_one(shares: impl Iterator<Item = f64>, d: f64) -> f64 {
    if d == 0.0 {
        return -shares.map(|share| share * share.ln()).sum::<f64>();
    }
    let above: f64 = shares.map(|share| share * (d * share.ln()).exp_m1()).sum();
    -above.ln_1p() / d
}

/// # Errors
/// [`Error::Invalid`] for an order that is not above 0.
pub(crate) fn check_order(order: f64) -> Result<()> {
    if order > 0.0 {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "order has to be above 0 (inf for the largest eigenvalue alone), got {order}"
        )))
    }
}
