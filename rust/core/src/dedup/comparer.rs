//! One text's shingles compared with those of others, on the whole sets.

use crate::shingle::ratio;

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
        let slots = &mut self.slots[..];
        let mask = slots.len() - 1;
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
    use crate::shingle::{jaccard_from, mix};

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
