//! The obvious way to compute what the crate computes quickly: sets of n-grams, all pairs, plain loops.

pub mod bleu;
pub mod dpp;
pub mod jacobi;
pub mod pairs;
pub mod texts;
pub mod vendi;

use std::collections::BTreeSet;

/// A text; `None` is null.
pub type Text = Option<Vec<u32>>;

/// All n-grams; the whole text where it is shorter; nothing where it is empty.
pub fn shingles(tokens: &[u32], n: usize) -> BTreeSet<Vec<u32>> {
    if tokens.is_empty() {
        return BTreeSet::new();
    }
    tokens.windows(n.min(tokens.len())).map(<[u32]>::to_vec).collect()
}

pub fn jaccard(a: &[u32], b: &[u32], n: usize) -> f64 {
    let (a, b) = (shingles(a, n), shingles(b, n));
    let union = a.union(&b).count();
    if union == 0 {
        1.0
    } else {
        a.intersection(&b).count() as f64 / union as f64
    }
}

/// Similarity where two texts count as duplicates: equal, or both with tokens and similar enough.
pub fn near(a: &[u32], b: &[u32], n: usize, threshold: f64) -> Option<f64> {
    if a == b {
        return Some(1.0);
    }
    let similarity = jaccard(a, b, n);
    (!a.is_empty() && !b.is_empty() && similarity >= threshold).then_some(similarity)
}

/// The smallest row of each row's connected component.
pub fn components(rows: usize, linked: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut label: Vec<usize> = (0..rows).collect();
    loop {
        let before = label.clone();
        for i in 0..rows {
            for j in 0..rows {
                if i != j && linked(i, j) {
                    label[i] = label[i].min(label[j]);
                }
            }
        }
        if label == before {
            return label;
        }
    }
}

/// Whether row a is preferred to row b.
pub fn preferred(preference: &[f64], a: usize, b: usize) -> bool {
    preference[a] > preference[b] || (preference[a] == preference[b] && a < b)
}

/// Rows in stars: the most preferred free row takes all free rows linked to it. Smallest row of each star.
pub fn stars(rows: usize, preference: &[f64], linked: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|&a, &b| preference[b].partial_cmp(&preference[a]).unwrap().then(a.cmp(&b)));
    let mut centre = vec![None; rows];
    for &row in &order {
        if centre[row].is_none() {
            for (other, centre) in centre.iter_mut().enumerate() {
                if centre.is_none() && (other == row || linked(row, other)) {
                    *centre = Some(row);
                }
            }
        }
    }
    (0..rows)
        .map(|row| (0..rows).find(|&other| centre[other] == centre[row]).unwrap())
        .collect()
}
