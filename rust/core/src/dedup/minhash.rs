//! MinHash: 64 minima of affine hashes of a shingle set, folded into one key per band.
//!
//! Two sets agree in one minimum with probability J (their Jaccard similarity), in a band of r minima with J^r.

use pulp::{Arch, Simd, WithSimd};

use crate::shingle::{low_windows, mix};

/// Minima per text.
const MINIMA: usize = 64;
/// Minima computed at a time: as many as fit the registers of the smallest x86-64.
const LANES: usize = 16;
/// Share of the pairs right at the threshold that the bands have to bring together.
const RECALL: f64 = 0.9995;

/// The affine hashes and how their minima are split into bands.
pub(crate) struct Sketcher {
    factors: [u32; MINIMA],
    terms: [u32; MINIMA],
    per_band: usize,
}

impl Sketcher {
    /// Takes the longest bands (fewest false candidates) that still find [`RECALL`] of the pairs at `threshold`:
    /// 16 bands of 4 at 0.8, 21 of 3 at 0.7, 32 of 2 at 0.5.
    pub fn new(threshold: f64) -> Self {
        let missed = |per_band: usize| {
            let bands = (MINIMA / per_band) as i32;
            (1.0 - threshold.powi(per_band as i32)).powi(bands)
        };
        let per_band = (1..=8).rev().find(|&r| 1.0 - missed(r) >= RECALL).unwrap_or(1);
        // Fixed constants: sketches have to be equal on all machines and in all versions. Odd factors permute u32.
        let factors = std::array::from_fn(|k| mix(2 * k as u64 + 1) as u32 | 1);
        let terms = std::array::from_fn(|k| mix(2 * k as u64 + 2) as u32);
        Self {
            factors,
            terms,
            per_band,
        }
    }

    /// Number of keys per text.
    pub fn bands(&self) -> usize {
        MINIMA / self.per_band
    }

    /// Writes the key of each band of a text. Texts of unlike `salt` get unlike keys.
    ///
    /// Keys of 32 bits bring together a few texts too many, which the exact comparison parts again.
    pub fn keys(&self, tokens: &[u32], ngram: usize, salt: u64, shingles: &mut Vec<u32>, keys: &mut [u32]) {
        let minima = Arch::new().dispatch(Minima {
            sketcher: self,
            tokens,
            ngram,
            shingles,
        });
        for (key, band) in keys.iter_mut().zip(minima.chunks_exact(self.per_band)) {
            *key = band.iter().fold(salt, |key, &minimum| mix(key ^ u64::from(minimum))) as u32;
        }
    }

    /// Repeats in `shingles` change nothing.
    #[inline(always)]
    fn minima(&self, shingles: &[u32]) -> [u32; MINIMA] {
        let mut minima = [u32::MAX; MINIMA];
        for block in (0..MINIMA).step_by(LANES) {
            let mut factors = [0; LANES];
            let mut terms = [0; LANES];
            factors.copy_from_slice(&self.factors[block..block + LANES]);
            terms.copy_from_slice(&self.terms[block..block + LANES]);
            let mut low = [u32::MAX; LANES];
            for &shingle in shingles {
                for lane in 0..LANES {
                    let value = shingle.wrapping_mul(factors[lane]).wrapping_add(terms[lane]);
                    low[lane] = low[lane].min(value);
                }
            }
            minima[block..block + LANES].copy_from_slice(&low);
        }
        minima
    }
}

/// A call of [`Sketcher::minima`] that the compiler builds for each vector unit there is.
struct Minima<'a> {
    sketcher: &'a Sketcher,
    tokens: &'a [u32],
    ngram: usize,
    shingles: &'a mut Vec<u32>,
}

impl WithSimd for Minima<'_> {
    type Output = [u32; MINIMA];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        low_windows(self.tokens, self.ngram, self.shingles);
        self.sketcher.minima(self.shingles)
    }
}
