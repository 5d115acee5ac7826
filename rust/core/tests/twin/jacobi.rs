//! Eigenvalues of a symmetric matrix by Jacobi's rotations, until nothing is left beside the diagonal.

/// Ascending.
pub fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for _ in 0..40 {
        for p in 0..n {
            for q in p + 1..n {
                let angle = (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]) / 2.0;
                let (s, c) = angle.sin_cos();
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
            }
        }
    }
    let mut found: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    found.sort_by(f64::total_cmp);
    found
}
