//! Sketches: 64 minima of a shingle set (fast similarity sketches; Dahlgaard, Knudsen and Thorup, 2017), folded into one key
//! per band.
//!
//! Each round hashes every shingle into one of the 64 places, which keeps its smallest value; a place that stays empty is
//! filled by a later round. Two sets agree in one place with probability J (their Jaccard similarity), in a band of r
//! places with J^r, as with 64 independent minima, for little more than one hash a shingle.

use pulp::{Arch, Simd, WithSimd};

use crate::shingle::low_windows;

/// Places of a sketch; a power of two.
const PLACES: usize = 64;
/// Bits of a hash below those that choose the place.
const VALUE_BITS: u32 = 32 - PLACES.ilog2();
/// A place that no shingle has reached.
const EMPTY: u32 = u32::MAX;
/// Share of the pairs right at the threshold that the bands have to bring together.
const RECALL: f64 = 0.9995;

/// How the places of a sketch are split into bands.
pub(crate) struct Sketcher {
    per_band: usize,
}

/// What a thread needs to sketch texts.
#[derive(Default)]
pub(crate) struct Scratch {
    shingles: Vec<u32>,
    hashes: Vec<u32>,
}

impl Sketcher {
    /// Takes the longest bands (fewest false candidates) that still find [`RECALL`] of the pairs at `threshold`:
    /// 16 bands of 4 at 0.8, 21 of 3 at 0.7, 32 of 2 at 0.5.
    pub fn new(threshold: f64) -> Self {
        let missed = |per_band: usize| {
            let bands = (PLACES / per_band) as i32;
            (1.0 - threshold.powi(per_band as i32)).powi(bands)
        };
        let per_band = (1..=8).rev().find(|&r| 1.0 - missed(r) >= RECALL).unwrap_or(1);
        Self { per_band }
    }

    /// Number of keys per text.
    pub fn bands(&self) -> usize {
        PLACES / self.per_band
    }

    /// Writes the key of each band of a text. Texts of unlike `salt` get unlike keys.
    ///
    /// Keys of 32 bits bring together a few texts too many, which the exact comparison parts again.
    pub fn keys(&self, tokens: &[u32], ngram: usize, salt: u64, scratch: &mut Scratch, keys: &mut [u32]) {
        let minima = Arch::new().dispatch(Minima { tokens, ngram, scratch });
        let salt = (salt ^ (salt >> 32)) as u32;
        for (key, band) in keys.iter_mut().zip(minima.chunks_exact(self.per_band)) {
            *key = band.iter().fold(salt, |key, &minimum| mix(key ^ minimum));
        }
    }
}

/// The sketch of a text, as code that the compiler builds for each vector unit there is.
struct Minima<'a> {
    tokens: &'a [u32],
    ngram: usize,
    scratch: &'a mut Scratch,
}

impl WithSimd for Minima<'_> {
    type Output = [u32; PLACES];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let Scratch { shingles, hashes } = self.scratch;
        low_windows(self.tokens, self.ngram, shingles);
        let mut minima = [EMPTY; PLACES];
        if shingles.is_empty() {
            return minima;
        }
        lower(&mut minima, shingles, 0);
        for round in 1..PLACES as u32 {
            if !minima.contains(&EMPTY) {
                return minima;
            }
            rehash(shingles, round, hashes);
            lower(&mut minima, hashes, round);
        }
        // So few shingles that chance fills no more: each place that is left takes their smallest hash of its own.
        for (place, minimum) in minima.iter_mut().enumerate().filter(|(_, minimum)| **minimum == EMPTY) {
            rehash(shingles, (PLACES + place) as u32, hashes);
            *minimum = hashes.iter().fold(EMPTY, |low, &hash| low.min(hash));
        }
        minima
    }
}

/// Lets every hash lower the value of its place. Values of a later round are larger, so they only fill empty places.
#[inline(always)]
fn lower(minima: &mut [u32; PLACES], hashes: &[u32], round: u32) {
    let tag = round << VALUE_BITS;
    for &hash in hashes {
        let place = &mut minima[(hash >> VALUE_BITS) as usize % PLACES];
        *place = (*place).min(hash & ((1 << VALUE_BITS) - 1) | tag);
    }
}

#[inline(always)]
fn rehash(shingles: &[u32], round: u32, hashes: &mut Vec<u32>) {
    hashes.clear();
    hashes.resize(shingles.len(), 0);
    let turn = round.wrapping_mul(0x9E37_79B9);
    for (hash, &shingle) in hashes.iter_mut().zip(shingles) {
        *hash = mix(mix(shingle ^ turn).wrapping_add(turn));
    }
}

/// Spreads the bits of a word: a bijection.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x21F0_AAAD);
    x = (x ^ (x >> 15)).wrapping_mul(0x735A_2D97);
    x ^ (x >> 15)
}
