//! Deduplication of texts by comparing all pairs.

use super::{Text, components, near, preferred, stars};

pub struct Expected {
    pub keep: Vec<bool>,
    pub cluster: Vec<i64>,
    pub reason: Vec<u8>,
}

pub fn dedup(texts: &[Text], groups: &[i64], n: usize, threshold: f64, star: bool, preference: &[f64]) -> Expected {
    let linked = |i: usize, j: usize| match (&texts[i], &texts[j]) {
        (Some(a), Some(b)) => groups[i] == groups[j] && near(a, b, n, threshold).is_some(),
        _ => false,
    };
    let same = |i: usize, j: usize| texts[i].is_some() && texts[i] == texts[j] && groups[i] == groups[j];
    settle(texts.len(), preference, star, linked, same)
}

/// Clusters, then what is kept of each, then why the others go.
pub fn settle(
    rows: usize,
    preference: &[f64],
    star: bool,
    linked: impl Fn(usize, usize) -> bool,
    same: impl Fn(usize, usize) -> bool,
) -> Expected {
    let cluster = if star {
        stars(rows, preference, linked)
    } else {
        components(rows, linked)
    };
    let beaten = |row: usize, by: &dyn Fn(usize) -> bool| {
        (0..rows).any(|other| by(other) && other != row && preferred(preference, other, row))
    };
    let keep: Vec<bool> = (0..rows)
        .map(|row| !beaten(row, &|other| cluster[other] == cluster[row]))
        .collect();
    let reason = (0..rows)
        .map(|row| match (keep[row], beaten(row, &|other| same(other, row))) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        })
        .collect();
    Expected {
        keep,
        cluster: cluster.iter().map(|&row| row as i64).collect(),
        reason,
    }
}
