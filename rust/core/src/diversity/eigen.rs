//! Eigenvalues of symmetric matrices: Householder's reduction to three diagonals, then QR steps with Wilkinson's shift
//! (Golub and Van Loan, Matrix Computations, 4th edition, algorithms 8.3.1 and 8.3.3).
//!
//! The sums are taken in a fixed order on every machine, so that the bits are the same with any vector unit.

use pulp::{Arch, Simd, WithSimd};

use crate::run::Stop;
use crate::{Error, Result};

const LANES: usize = 8;
/// QR steps that an eigenvalue may take; two are usual.
const STEPS: usize = 60;

/// What is needed beside the matrix. Keeps its memory from one matrix to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    diagonal: Vec<f64>,
    beside: Vec<f64>,
    v: Vec<f64>,
    w: Vec<f64>,
}

/// Eigenvalues of the symmetric matrix whose upper triangle lies in `matrix`, row by row, in no particular order.
///
/// The matrix is overwritten. Errors of the values are a few roundings of the largest one.
///
/// # Errors
/// [`Error::Stopped`]; [`Error::Internal`] where the steps do not converge, which takes entries that are not finite.
pub(crate) fn eigenvalues<'a>(
    matrix: &mut [f64],
    size: usize,
    scratch: &'a mut Scratch,
    stop: &Stop,
) -> Result<&'a [f64]> {
    let Scratch { diagonal, beside, v, w } = scratch;
    for part in [&mut *diagonal, &mut *beside, &mut *v, &mut *w] {
        part.clear();
        part.resize(size, 0.0);
    }
    for k in 0..size {
        stop.check()?;
        diagonal[k] = matrix[k * size + k];
        let (row, rest) = matrix[k * size..].split_at_mut(size);
        beside[k] = reflect(&row[k + 1..], &mut v[k + 1..]);
        Arch::new().dispatch(Reduce {
            rest,
            size,
            v: &v[k + 1..],
            w: &mut w[k + 1..],
        });
    }
    iterate(diagonal, beside, stop)?;
    Ok(diagonal)
}

/// A `v` of squared length 2 such that (I - v vT) x is zero below its first entry, which is returned. Zero where x is so
/// already.
fn reflect(x: &[f64], v: &mut [f64]) -> f64 {
    let Some((&first, others)) = x.split_first() else {
        return 0.0;
    };
    let tail = dot(others, others);
    if tail == 0.0 {
        v.fill(0.0);
        return first;
    }
    let entry = -(first * first + tail).sqrt().copysign(first);
    let scale = (2.0 / ((first - entry) * (first - entry) + tail)).sqrt();
    v.iter_mut().zip(x).for_each(|(v, x)| *v = x * scale);
    v[0] = (first - entry) * scale;
    entry
}

/// Applies the reflection of `v` to both sides of the matrix that is left, the upper triangle only.
struct Reduce<'a> {
    /// The rows below row k, of which the last `v.len()` columns are left.
    rest: &'a mut [f64],
    size: usize,
    v: &'a [f64],
    w: &'a mut [f64],
}

impl WithSimd for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { rest, size, v, w } = self;
        let (left, skipped) = (v.len(), size - v.len());
        w.fill(0.0);
        for i in 0..left {
            // Each entry right of the diagonal stands for itself and for its mirror image.
            let row = &rest[i * size + skipped + i..][..left - i];
            let (here, below) = w[i..].split_at_mut(1);
            here[0] += row[0] * v[i] + dot(&row[1..], &v[i + 1..]);
            add(below, &row[1..], v[i]);
        }
        let half = dot(v, w) / 2.0;
        add(w, v, -half);
        for i in 0..left {
            let row = &mut rest[i * size + skipped + i..][..left - i];
            for ((entry, v_j), w_j) in row.iter_mut().zip(&v[i..]).zip(&w[i..]) {
                *entry -= v[i] * w_j + w[i] * v_j;
            }
        }
    }
}

#[inline(always)]
fn add(to: &mut [f64], from: &[f64], factor: f64) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

/// A dot product as eight sums side by side, on every machine.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Leaves the eigenvalues of a matrix of three diagonals in `diagonal`; `beside[i]` couples i and i + 1.
fn iterate(diagonal: &mut [f64], beside: &mut [f64], stop: &Stop) -> Result<()> {
    let largest = diagonal
        .iter()
        .chain(beside.iter())
        .fold(0.0f64, |most, x| most.max(x.abs()));
    let nothing = f64::EPSILON * largest;
    let mut end = diagonal.len();
    let mut steps = STEPS * end;
    while end > 1 {
        if beside[end - 2].abs() <= nothing {
            end -= 1;
            continue;
        }
        let first = (0..end - 1)
            .rev()
            .find(|&i| beside[i].abs() <= nothing)
            .map_or(0, |i| i + 1);
        steps = steps
            .checked_sub(1)
            .ok_or_else(|| Error::Internal("the eigenvalues of a kernel were not found; please report this".into()))?;
        stop.check()?;
        step(&mut diagonal[first..end], &mut beside[first..end - 1]);
    }
    Ok(())
}

/// One implicit QR step.
fn step(d: &mut [f64], e: &mut [f64]) {
    let last = e.len() - 1;
    let half = (d[last] - d[last + 1]) / 2.0;
    let shift = d[last + 1] - e[last] * e[last] / (half + length(half, e[last]).copysign(half));
    let (mut x, mut z) = (d[0] - shift, e[0]);
    for k in 0..=last {
        let r = length(x, z);
        let (c, s) = if r == 0.0 { (1.0, 0.0) } else { (x / r, z / r) };
        if k > 0 {
            e[k - 1] = r;
        }
        let (a, b, g) = (d[k], e[k], d[k + 1]);
        d[k] = c * c * a + 2.0 * c * s * b + s * s * g;
        d[k + 1] = s * s * a - 2.0 * c * s * b + c * c * g;
        e[k] = c * s * (g - a) + (c * c - s * s) * b;
        if k < last {
            x = e[k];
            z = s * e[k + 1];
            e[k + 1] *= c;
        }
    }
}

fn length(x: f64, z: f64) -> f64 {
    (x * x + z * z).sqrt()
}

#[cfg(test)]
#[path = "../../tests/twin/jacobi.rs"]
mod jacobi;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Scratch, eigenvalues, jacobi};
    use crate::run::Stop;

    proptest! {
        #[test]
        fn eigenvalues_are_jacobis(size in 0usize..14, entries in prop::collection::vec(-2i8..3, 200), scale in -3i32..4) {
            let entry = |i: usize, j: usize| f64::from(entries[14 * i.min(j) + i.max(j)]) * 10f64.powi(scale);
            let full: Vec<Vec<f64>> = (0..size).map(|i| (0..size).map(|j| entry(i, j)).collect()).collect();
            let mut flat = full.concat();
            let mut scratch = Scratch::default();
            let found = eigenvalues(&mut flat, size, &mut scratch, &Stop::default());
            prop_assert!(found.is_ok());
            let mut found = found.unwrap_or_default().to_vec();
            found.sort_by(f64::total_cmp);
            for (found, expected) in found.iter().zip(jacobi::eigenvalues(full)) {
                prop_assert!((found - expected).abs() < 1e-12 * 10f64.powi(scale) * 28.0, "{found} {expected}");
            }
        }
    }

    #[test]
    fn no_number_is_an_error_and_not_a_long_wait() {
        let mut matrix = vec![f64::NAN; 25];
        assert!(eigenvalues(&mut matrix, 5, &mut Scratch::default(), &Stop::default()).is_err());
    }
}
