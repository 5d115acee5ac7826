//! Vendi score with counters, a full matrix and Jacobi's rotations.

use std::collections::BTreeMap;

use super::jacobi;

fn counts(text: &[u32], n: usize) -> BTreeMap<&[u32], f64> {
    let mut counts = BTreeMap::new();
    text.windows(n)
        .for_each(|gram| *counts.entry(gram).or_insert(0.0) += 1.0);
    counts
}

fn cosine(a: &[u32], b: &[u32], n: usize) -> f64 {
    let (a, b) = (counts(a, n), counts(b, n));
    let squares = |x: &BTreeMap<&[u32], f64>| x.values().map(|count| count * count).sum::<f64>();
    let product: f64 = a.iter().map(|(gram, count)| count * b.get(gram).unwrap_or(&0.0)).sum();
    if product == 0.0 {
        0.0
    } else {
        product / (squares(&a) * squares(&b)).sqrt()
    }
}

fn similarity(a: &[u32], b: &[u32]) -> f64 {
    let sum = |a, b| (1..=4).map(|n| cosine(a, b, n)).sum::<f64>();
    match (a.is_empty(), b.is_empty()) {
        (true, true) => 1.0,
        (false, false) => sum(a, b) / (sum(a, a) * sum(b, b)).sqrt(),
        _ => 0.0,
    }
}

/// NaN without texts.
pub fn vendi(texts: &[Vec<u32>], order: f64) -> f64 {
    let row = |a: &Vec<u32>| texts.iter().map(|b| similarity(a, b) / texts.len() as f64).collect();
    let shares = jacobi::eigenvalues(texts.iter().map(row).collect());
    let Some(largest) = shares.last() else {
        return f64::NAN;
    };
    let shares = shares.iter().filter(|&&share| share > 1e-13);
    if order == 1.0 {
        (-shares.map(|p| p * p.ln()).sum::<f64>()).exp()
    } else if order == f64::INFINITY {
        1.0 / largest
    } else {
        shares.map(|p| p.powf(order)).sum::<f64>().powf(1.0 / (1.0 - order))
    }
}
