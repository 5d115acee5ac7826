//! The greedy mode of a determinantal point process by determinants of submatrices.

use super::{Text, jaccard};

/// By elimination with the largest pivot.
fn determinant(mut a: Vec<Vec<f64>>) -> f64 {
    let (n, mut product) = (a.len(), 1.0);
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| a[i][k].abs().total_cmp(&a[j][k].abs())).unwrap();
        if a[pivot][k] == 0.0 {
            return 0.0;
        }
        product *= if pivot == k { a[k][k] } else { -a[pivot][k] };
        a.swap(k, pivot);
        for i in k + 1..n {
            let factor = a[i][k] / a[k][k];
            let above = a[k].clone();
            a[i].iter_mut()
                .zip(above)
                .for_each(|(entry, above)| *entry -= factor * above);
        }
    }
    product
}

/// Rows in the order they are chosen. Determinants that differ by rounding only are equal, and the smaller row wins.
pub fn choose(texts: &[Text], quality: &[f64], k: usize, ngram: usize) -> Vec<usize> {
    let entry = |i: usize, j: usize| {
        quality[i] * quality[j] * jaccard(texts[i].as_ref().unwrap(), texts[j].as_ref().unwrap(), ngram)
    };
    let of = |rows: &[usize]| {
        determinant(
            rows.iter()
                .map(|&i| rows.iter().map(|&j| entry(i, j)).collect())
                .collect(),
        )
    };
    let (mut chosen, mut spanning): (Vec<usize>, Vec<usize>) = (vec![], vec![]);
    while chosen.len() < k.min(texts.iter().flatten().count()) {
        let free = (0..texts.len()).filter(|row| texts[*row].is_some() && !chosen.contains(row));
        let gains: Vec<(usize, f64)> = free
            .map(|row| {
                let gain = of(&[&spanning[..], &[row]].concat()) / of(&spanning);
                (row, if gain > 1e-9 * entry(row, row) { gain } else { 0.0 })
            })
            .collect();
        let most = gains.iter().map(|gain| gain.1).fold(0.0, f64::max);
        let &(row, gain) = gains.iter().find(|gain| gain.1 >= most * (1.0 - 1e-8)).unwrap();
        chosen.push(row);
        if gain > 0.0 {
            spanning.push(row);
        }
    }
    chosen
}
