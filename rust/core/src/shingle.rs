//! Shingles: the set of n-grams of a text, each hashed to 64 bits.
//!
//! Two different n-grams share a hash with probability 2^-64, far below the rate of memory errors; "exact" in this
//! crate means exact on these sets. A hash is two lanes of 32 bits, because that is what vector units multiply; the
//! lanes are computed by the same code on every machine, and the compiler makes vectors of it where there are any.

use pulp::{Arch, Simd, WithSimd};

/// Multipliers of the two lanes: odd, with bits spread over the whole word.
const LOW: u32 = 0x9E37_79B1;
const HIGH: u32 = 0x85EB_CA77;

/// Mixes 64 bits so that every input bit moves every output bit (the finaliser of SplitMix64).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// One lane of the hash of a window. The length goes in first, so that a short text never equals a window of a long one.
#[inline(always)]
fn lane<const FACTOR: u32>(window: &[u32]) -> u32 {
    let mut h = (window.len() as u32).wrapping_mul(FACTOR);
    for &token in window {
        // Bijective in `h` and in `token`: windows that differ in one place never collide.
        h = (h ^ token).wrapping_mul(FACTOR);
        h ^= h >> 15;
    }
    h = h.wrapping_mul(0x2C1B_3C6D);
    h ^ (h >> 16)
}

#[inline(always)]
fn both(window: &[u32]) -> u64 {
    u64::from(lane::<HIGH>(window)) << 32 | u64::from(lane::<LOW>(window))
}

/// The hashes of all windows of `n` tokens, in order, with repeats; they lie in `out`, whose own length says nothing.
///
/// A text shorter than `n` counts as one shingle, the whole text; an empty text has none.
pub(crate) fn windows<'a>(tokens: &[u32], n: usize, out: &'a mut Vec<u64>) -> &'a [u64] {
    Arch::new().dispatch(Windows { tokens, n, out })
}

/// A call of [`each_window`] that the compiler builds for each vector unit there is.
struct Windows<'a, 'b> {
    tokens: &'b [u32],
    n: usize,
    out: &'a mut Vec<u64>,
}

impl<'a> WithSimd for Windows<'a, '_> {
    type Output = &'a [u64];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        each_window(self.tokens, self.n, self.out, both)
    }
}

/// The same, but only the low halves of the hashes.
#[inline(always)]
pub(crate) fn low_windows<'a>(tokens: &[u32], n: usize, out: &'a mut Vec<u32>) -> &'a [u32] {
    each_window(tokens, n, out, lane::<LOW>)
}

#[inline(always)]
fn each_window<'a, T: Copy + Default>(
    tokens: &[u32],
    n: usize,
    out: &'a mut Vec<T>,
    hash: impl Fn(&[u32]) -> T,
) -> &'a [T] {
    let count = match tokens.len() {
        0 => 0,
        length => length.saturating_sub(n) + 1,
    };
    if out.len() < count {
        out.resize(count, T::default());
    }
    let out = &mut out[..count];
    match n {
        _ if tokens.len() <= n => out.iter_mut().for_each(|place| *place = hash(tokens)),
        // The usual lengths as constants, so that the inner loop unrolls and the outer one becomes vectors.
        3 => fixed::<3, T>(tokens, out, hash),
        5 => fixed::<5, T>(tokens, out, hash),
        7 => fixed::<7, T>(tokens, out, hash),
        _ => out
            .iter_mut()
            .zip(tokens.windows(n))
            .for_each(|(place, window)| *place = hash(window)),
    }
    out
}

// Written to places that exist: what appends to a vector is compiled apart, for the smallest machine.
#[inline(always)]
fn fixed<const N: usize, T>(tokens: &[u32], out: &mut [T], hash: impl Fn(&[u32]) -> T) {
    for (place, window) in out.iter_mut().zip(tokens.windows(N)) {
        let mut copy = [0; N];
        copy.copy_from_slice(window);
        *place = hash(&copy);
    }
}

/// The set of shingles of a text: sorted, without repeats.
pub(crate) fn set(tokens: &[u32], n: usize) -> Vec<u64> {
    let mut out = windows(tokens, n, &mut Vec::new()).to_vec();
    out.sort_unstable();
    out.dedup();
    out
}

/// Jaccard similarity of two sets: 1 for two empty ones, which are the same text.
pub(crate) fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    ratio(overlap(a, b, 0).unwrap_or(0), a.len(), b.len())
}

/// Jaccard similarity of two sets if it reaches `threshold`; gives up as soon as it no longer can.
pub(crate) fn jaccard_from(a: &[u64], b: &[u64], threshold: f64) -> Option<f64> {
    let shared = overlap(a, b, needed(a.len(), b.len(), threshold)?)?;
    let similarity = ratio(shared, a.len(), b.len());
    (similarity >= threshold).then_some(similarity)
}

/// Similarity of sets of `a` and `b` elements that share `shared` of them.
pub(crate) fn ratio(shared: usize, a: usize, b: usize) -> f64 {
    let union = a + b - shared;
    if union == 0 { 1.0 } else { shared as f64 / union as f64 }
}

/// The smallest overlap that reaches the threshold, or `None` where even full overlap does not.
fn needed(a: usize, b: usize, threshold: f64) -> Option<usize> {
    let most = a.min(b);
    if ratio(most, a, b) < threshold {
        return None;
    }
    // The estimate may be one off in either direction, and both directions are corrected by the exact test.
    let mut least = ((threshold / (1.0 + threshold) * (a + b) as f64) as usize).min(most);
    while least > 0 && ratio(least - 1, a, b) >= threshold {
        least -= 1;
    }
    while ratio(least, a, b) < threshold {
        least += 1;
    }
    Some(least)
}

/// Size of the intersection of two sorted sets, or `None` as soon as it cannot reach `least`.
fn overlap(a: &[u64], b: &[u64], least: usize) -> Option<usize> {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        shared += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
        if x != y && shared + (a.len() - i).min(b.len() - j) < least {
            return None;
        }
    }
    (shared >= least).then_some(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_units_and_none_give_the_same_bits() {
        let tokens: Vec<u32> = (0..200).map(|place| mix(place) as u32).collect();
        for count in 1..200 {
            for n in [1, 3, 4, 5, 7, 12] {
                let hashes = |arch: Arch| {
                    let (tokens, out) = (&tokens[..count], &mut Vec::new());
                    arch.dispatch(Windows { tokens, n, out }).to_vec()
                };
                assert_eq!(hashes(Arch::new()), hashes(Arch::Scalar));
                #[cfg(target_arch = "x86_64")]
                if let Some(simd) = pulp::x86::V3::try_new() {
                    assert_eq!(hashes(Arch::V3(simd)), hashes(Arch::Scalar));
                }
            }
        }
    }
}
