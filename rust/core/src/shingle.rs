//! Shingles: the set of n-grams of a text, each hashed to 64 bits, kept sorted.
//!
//! Two different n-grams share a hash with probability 2^-64, far below the rate of memory errors;
//! "exact" in this crate means exact on these sets.

/// Odd constant of the multiplicative hash (2^64 divided by the golden ratio).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes 64 bits so that every input bit moves every output bit (the finaliser of SplitMix64).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Hash of one window. The length goes in first, so that a short text never equals a window of a long one.
fn hash(window: &[u32]) -> u64 {
    let mut h = (window.len() as u64).wrapping_mul(STEP);
    for &token in window {
        // Bijective in `h` and in `token`: windows that differ in one place never collide.
        h = (h ^ u64::from(token)).wrapping_mul(STEP);
        h ^= h >> 32;
    }
    mix(h)
}

/// Replaces `out` by the hashes of all windows of `n` tokens, in order, with repeats.
///
/// A text shorter than `n` counts as one shingle, the whole text; an empty text has none.
pub(crate) fn windows(tokens: &[u32], n: usize, out: &mut Vec<u64>) {
    out.clear();
    if tokens.is_empty() {
        return;
    }
    if tokens.len() < n {
        out.push(hash(tokens));
        return;
    }
    match n {
        // The usual lengths as constants, so that the inner loop unrolls.
        3 => out.extend(fixed::<3>(tokens)),
        5 => out.extend(fixed::<5>(tokens)),
        _ => out.extend(tokens.windows(n).map(hash)),
    }
}

/// The set of shingles of a text: sorted, without repeats.
pub(crate) fn set(tokens: &[u32], n: usize) -> Vec<u64> {
    let mut out = Vec::new();
    windows(tokens, n, &mut out);
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

/// Hashes of all windows of a length known when compiling.
fn fixed<const N: usize>(tokens: &[u32]) -> impl Iterator<Item = u64> {
    tokens.windows(N).map(|window| {
        let mut copy = [0; N];
        copy.copy_from_slice(window);
        hash(&copy)
    })
}
