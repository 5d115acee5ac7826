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

/// Compares one set of shingles with others, in time linear in their lengths: no sorting.
#[derive(Default)]
pub(crate) struct Comparer {
    /// The one text's shingles in order; during a comparison also those that only the other text has.
    all: Vec<u64>,
    /// The one text's shingles without repeats.
    distinct: usize,
    /// By a few bits of a shingle, its first place in `all` plus 1, and 0 where there is none; the next free slot where that
    /// is taken. So sparse that this is rare. A power of two of them.
    slots: Vec<u32>,
    /// Places in `all` whose slot was taken when they came.
    late: Vec<u32>,
    /// Places in `all` whose shingle has one before.
    repeats: Vec<u32>,
    /// For each of the one text's shingles, whether the other text has had it.
    met: Vec<bool>,
    /// The slots of what only the other text has.
    others: Vec<usize>,
}

impl Comparer {
    /// Takes the shingles of one text, repeats and all, to be compared with others.
    pub fn take(&mut self, shingles: &[u64]) {
        self.all.clear();
        self.all.extend_from_slice(shingles);
        self.slots.clear();
        self.slots.resize(slots_for(shingles.len()), 0);
        self.late.resize(shingles.len(), 0);
        let (slots, mask) = (&mut self.slots[..], slots_for(shingles.len()) - 1);
        // Without branches: whether a slot is taken is hard to foretell.
        let mut late = 0;
        for (place, &shingle) in (0..).zip(shingles) {
            let slot = &mut slots[shingle as usize & mask];
            self.late[late] = place;
            late += usize::from(*slot != 0);
            *slot = if *slot == 0 { place + 1 } else { *slot };
        }
        self.repeats.clear();
        for &place in &self.late[..late] {
            match find(&self.all, slots, shingles[place as usize]) {
                Ok(_) => self.repeats.push(place),
                Err(slot) => slots[slot] = place + 1,
            }
        }
        self.distinct = shingles.len() - self.repeats.len();
    }

    /// Jaccard similarity with the shingles of another text, if it reaches `threshold`.
    pub fn jaccard_from(&mut self, shingles: &[u64], threshold: f64) -> Option<f64> {
        let own = self.all.len();
        let most = most_others(self.distinct, shingles.len(), threshold);
        self.make_room(own + most);
        self.met.clear();
        self.met.resize(own, false);
        let complete = self.meet(shingles, most);
        let others = self.others.len();
        self.all.truncate(own);
        for slot in self.others.drain(..) {
            self.slots[slot] = 0;
        }
        if !complete {
            return None;
        }
        for &place in &self.repeats {
            if std::mem::take(&mut self.met[place as usize])
                && let Ok(first) = find(&self.all, &self.slots, self.all[place as usize])
            {
                self.met[first] = true;
            }
        }
        let shared = count(&self.met);
        let similarity = ratio(shared, self.distinct, shared + others);
        (similarity >= threshold).then_some(similarity)
    }

    /// Notes what the other text has of the one text's shingles, and what only it has; false where that is more than `most`.
    fn meet(&mut self, shingles: &[u64], most: usize) -> bool {
        let own = self.met.len();
        let (mut next, mut rest) = (0, shingles);
        while let Some(&shingle) = rest.first() {
            // Similar texts have long runs in common: what follows is looked at before the table.
            let run = common(&self.all[next..own], rest);
            if run > 0 {
                self.met[next..next + run].fill(true);
                (next, rest) = (next + run, &rest[run..]);
                continue;
            }
            rest = &rest[1..];
            match find(&self.all, &self.slots, shingle) {
                Ok(place) if place < own => {
                    self.met[place] = true;
                    next = place + 1;
                }
                Ok(_) => {} // the other text's own, again
                Err(_) if self.others.len() == most => return false,
                Err(slot) => {
                    self.others.push(slot);
                    self.all.push(shingle);
                    self.slots[slot] = self.all.len() as u32;
                }
            }
        }
        true
    }

    /// Sees to slots for so many shingles.
    fn make_room(&mut self, most: usize) {
        if most * 2 > self.slots.len() {
            self.slots.clear();
            self.slots.resize(slots_for(most), 0);
            for (place, &shingle) in (0..).zip(&self.all) {
                if let Err(slot) = find(&self.all, &self.slots, shingle) {
                    self.slots[slot] = place + 1;
                }
            }
        }
    }
}

fn slots_for(shingles: usize) -> usize {
    (4 * shingles).next_power_of_two().max(64)
}

/// How many shingles of its own a text of at most `all` may have, if it reaches the threshold with one of `distinct`.
fn most_others(distinct: usize, all: usize, threshold: f64) -> usize {
    // Similarity is at most distinct / (distinct + others), and at most (all - others) / (distinct + others).
    let (distinct, windows) = (distinct as f64, all as f64);
    let most = (distinct / threshold - distinct).min((windows - threshold * distinct) / (1.0 + threshold));
    // One more, for the estimate may be off; the exact similarity decides.
    (most.max(0.0) as usize + 1).min(all)
}

/// How many are true. Summed as bytes, a vector of which holds many.
fn count(flags: &[bool]) -> usize {
    let few = flags.chunks(u8::MAX as usize);
    few.map(|few| usize::from(few.iter().map(|&flag| u8::from(flag)).sum::<u8>()))
        .sum()
}

/// How many first elements two lists have in common.
#[inline(always)]
fn common(a: &[u64], b: &[u64]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The place of a shingle in `all`, or the free slot where that would be noted.
#[inline(always)]
fn find(all: &[u64], slots: &[u32], shingle: u64) -> Result<usize, usize> {
    let mask = slots.len() - 1;
    let mut slot = shingle as usize & mask;
    loop {
        match slots[slot] as usize {
            0 => return Err(slot),
            place if all[place - 1] == shingle => return Ok(place - 1),
            _ => slot = (slot + 1) & mask,
        }
    }
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

    #[test]
    fn the_comparer_is_the_sorted_comparison() {
        // Runs of repeats, repeats far apart, and neither; from texts that share nothing to the same text.
        let text = |seed: u64| -> Vec<u64> {
            let place = |place: u64| match seed % 3 {
                0 => seed / 90 + place / 3,
                1 => place * place % (seed % 31 + 1),
                _ => seed / 90 + place,
            };
            (0..seed % 90).map(|at| mix(place(at))).collect()
        };
        let (mut comparer, mut sorted) = (Comparer::default(), text(0));
        for seed in 0..3000 {
            let one = text(seed);
            comparer.take(&one);
            sorted.clear();
            sorted.extend(&one);
            sorted.sort_unstable();
            sorted.dedup();
            // Compared with several in turn: what one leaves behind would show in the next.
            for step in [0, 1, 91, 271, 1234] {
                let other = text(seed + step);
                let mut set = other.clone();
                set.sort_unstable();
                set.dedup();
                for threshold in [0.01, 0.3, 0.8, 1.0] {
                    let found = comparer.jaccard_from(&other, threshold);
                    assert_eq!(
                        found,
                        jaccard_from(&sorted, &set, threshold),
                        "{seed} {step} {threshold}"
                    );
                }
            }
        }
    }
}
