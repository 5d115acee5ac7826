//! Sketches: 64 minima of a shingle set (one-permutation hashing; Li, Owen and Zhang, 2012), folded into one key per band.
//! Empty places are filled as the last rounds of fast similarity sketches do (Dahlgaard, Knudsen and Thorup, 2017).
//!
//! Each shingle is hashed into one of the 64 places, which keeps the smallest hash. A place that stays empty takes the
//! smallest of all shingles by a hash function of its own. Two sets agree in one place with probability J (their Jaccard
//! similarity), in a band of r places with J^r, as with 64 independent minima, for little more than one hash a shingle.

use pulp::{Arch, Simd, WithSimd};

use crate::shingle::low_windows;

/// Places of a sketch; a power of two.
const PLACES: usize = 64;
/// Bits of a hash below those that choose the place.
const VALUE_BITS: u32 = 32 - PLACES.ilog2();
/// A place that no shingle has reached.
const EMPTY: u32 = u32::MAX;
/// Lanes of the widest vectors.
const LANES: usize = 16;
/// From one empty place for so many hashes, all places are filled side by side.
const DENSE: usize = 8;
/// Share of the pairs right at the threshold that the bands have to bring together.
const RECALL: f64 = 0.9995;

/// How the places of a sketch are split into bands.
#[derive(Debug)]
pub(crate) struct Sketcher {
    per_band: usize,
}

/// What a thread needs to sketch texts.
#[derive(Default)]
pub(crate) struct Scratch {
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

    /// Writes the key of each band of a text, and returns one of the whole text, to find its copies by. Texts of unlike
    /// `salt` get unlike keys.
    ///
    /// Keys of 32 bits bring together a few texts too many, which the exact comparison parts again.
    pub fn keys(&self, tokens: &[u32], ngram: usize, salt: u64, scratch: &mut Scratch, keys: &mut [u32]) -> u32 {
        let salt = (salt ^ (salt >> 32)) as u32;
        keys.fill(salt);
        let whole = Arch::new().dispatch(Keys {
            tokens,
            ngram,
            hashes: &mut scratch.hashes,
            keys,
        });
        mix(mix(salt ^ whole) ^ tokens.len() as u32)
    }
}

/// The keys of a text, as code that the compiler builds for each vector unit there is.
struct Keys<'a> {
    tokens: &'a [u32],
    ngram: usize,
    hashes: &'a mut Vec<u32>,
    keys: &'a mut [u32],
}

impl WithSimd for Keys<'_> {
    type Output = u32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u32 {
        let hashes = low_windows(self.tokens, self.ngram, self.hashes);
        let whole = in_order(hashes);
        let count = hashes.len();
        let minima = minima(self.hashes, count);
        // A band takes one place from each part of the sketch, so that all keys are folded side by side.
        for part in minima.chunks_exact(self.keys.len()) {
            for (key, &minimum) in self.keys.iter_mut().zip(part) {
                *key = mix(*key ^ minimum);
            }
        }
        whole
    }
}

/// A hash of hashes in their order: each counts with an odd factor of its own, so that one changed hash always shows.
#[inline(always)]
fn in_order(hashes: &[u32]) -> u32 {
    let factors = (0..).map(|place: u32| place.wrapping_mul(2).wrapping_add(1));
    let terms = hashes
        .iter()
        .zip(factors)
        .map(|(hash, factor)| hash.wrapping_mul(factor));
    terms.fold(0, u32::wrapping_add)
}

/// The sketch of the first `count` hashes. What comes after them is overwritten.
#[inline(always)]
fn minima(hashes: &mut Vec<u32>, count: usize) -> [u32; PLACES] {
    let mut minima = [EMPTY; PLACES];
    if count == 0 {
        return minima;
    }
    let mut put = |&hash: &u32| {
        let place = &mut minima[(hash >> VALUE_BITS) as usize % PLACES];
        *place = (*place).min(hash);
    };
    // In steps, which the compiler writes out.
    let (steps, rest) = hashes[..count].as_chunks::<8>();
    steps.iter().for_each(|step| step.iter().for_each(&mut put));
    rest.iter().for_each(put);
    // Few shingles leave places empty: such a place takes the smallest of hashes of its own.
    let empty = minima.iter().filter(|&&minimum| minimum == EMPTY).count();
    if empty * DENSE > count {
        fill_all(&mut minima, &hashes[..count]);
    } else if empty > 0 {
        // Repeats change no set, and leave the loops on vectors no remainder.
        let padded = count.next_multiple_of(LANES);
        hashes.resize(hashes.len().max(padded), 0);
        let first = hashes[0];
        hashes[count..padded].fill(first);
        fill_each(&mut minima, &hashes[..padded]);
    }
    minima
}

/// Fills empty places one after the other: few places, many hashes.
#[inline(always)]
fn fill_each(minima: &mut [u32; PLACES], hashes: &[u32]) {
    for (place, minimum) in minima.iter_mut().enumerate().filter(|(_, minimum)| **minimum == EMPTY) {
        let own = hashes.iter().map(|hash| hash.wrapping_mul(OWN[place]));
        *minimum = apart(own.fold(EMPTY, u32::min), place);
    }
}

/// Fills empty places side by side: many places, few hashes.
#[inline(always)]
fn fill_all(minima: &mut [u32; PLACES], hashes: &[u32]) {
    let mut least = [EMPTY; PLACES];
    for hash in hashes {
        for (least, own) in least.iter_mut().zip(&OWN) {
            *least = (*least).min(hash.wrapping_mul(*own));
        }
    }
    for (place, (minimum, least)) in minima.iter_mut().zip(least).enumerate() {
        *minimum = if *minimum == EMPTY {
            apart(least, place)
        } else {
            *minimum
        };
    }
}

/// A value with the first bits of the next place, so that it equals none that a hash has in its own.
#[inline(always)]
fn apart(least: u32, place: usize) -> u32 {
    least >> PLACES.ilog2() | (place as u32 + 1) << VALUE_BITS
}

/// By what the hashes of an empty place are multiplied.
const OWN: [u32; PLACES] = {
    let mut factors = [0; PLACES];
    let mut place = 0;
    while place < PLACES {
        factors[place] = mix(place as u32 + 1) | 1;
        place += 1;
    }
    factors
};

/// Spreads the bits of a word: a bijection.
#[inline(always)]
const fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x21F0_AAAD);
    x = (x ^ (x >> 15)).wrapping_mul(0x735A_2D97);
    x ^ (x >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shingle::mix;

    fn tokens(count: u64) -> Vec<u32> {
        (0..count).map(|place| mix(place) as u32 % 32_000).collect()
    }

    fn keys(arch: Arch, tokens: &[u32], ngram: usize) -> (Vec<u32>, u32) {
        let (mut hashes, mut keys) = (Vec::new(), vec![0; 16]);
        let whole = arch.dispatch(Keys {
            tokens,
            ngram,
            hashes: &mut hashes,
            keys: &mut keys,
        });
        (keys, whole)
    }

    #[test]
    fn vector_units_and_none_give_the_same_bits() {
        for count in (1..80).chain([100, 324, 1000]) {
            for ngram in [1, 2, 3, 5, 7, 9] {
                let tokens = tokens(count);
                let scalar = keys(Arch::Scalar, &tokens, ngram);
                assert_eq!(
                    keys(Arch::new(), &tokens, ngram),
                    scalar,
                    "{count} tokens, {ngram}-grams"
                );
                #[cfg(target_arch = "x86_64")]
                if let Some(simd) = pulp::x86::V3::try_new() {
                    assert_eq!(
                        keys(Arch::V3(simd), &tokens, ngram),
                        scalar,
                        "{count} tokens, {ngram}-grams"
                    );
                }
            }
        }
    }

    #[test]
    fn the_key_of_a_whole_text_tells_texts_apart_whose_sketches_are_the_same() {
        let whole = |tokens: &[u32]| Sketcher::new(0.8).keys(tokens, 1, 7, &mut Scratch::default(), &mut [0; 16]);
        let wholes = [
            whole(&[1, 2, 3]),
            whole(&[3, 2, 1]),
            whole(&[1, 2, 3, 3]),
            whole(&[1, 2, 3, 3, 3]),
            whole(&[]),
        ];
        assert!((1..wholes.len()).all(|end| !wholes[..end].contains(&wholes[end])));
        assert_eq!(whole(&[1, 2, 3]), wholes[0]);
    }

    /// The same numbers on every machine, whatever its vectors and the order of its bytes.
    #[test]
    fn keys_are_pinned() {
        let folded = |count| {
            let (keys, _) = keys(Arch::new(), &tokens(count), 5);
            keys.iter().fold(0, |all, &key| mix(all ^ u64::from(key)))
        };
        let pinned = [
            15_857_974_719_357_026_836,
            13_215_144_210_451_783_995,
            4_273_881_806_029_581_589,
        ];
        assert_eq!([3, 50, 500].map(folded), pinned);
    }
}
