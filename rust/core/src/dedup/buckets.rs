//! Who shares a key: members grouped by key, without sorting those that are alone with theirs.

use crate::Result;
use crate::run::Stop;

/// Members of a bin, about; few enough that a bin and its counters stay in a near cache.
const BIN: usize = 4096;
/// Bins at most: each is written to in turn, and a processor keeps track of only so many places.
const MOST_BINS: usize = 1 << 12;
/// Counters of a bin for each of its members.
const SPARSE: usize = 16;

/// Members that share a key.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Where just two do, as nearly always: the smaller and the larger.
    pub couples: Vec<(u32, u32)>,
    /// Where more do.
    pub crowds: Crowds,
}

impl Shared {
    /// What has a member from `first` on.
    pub fn from(mut self, first: u32) -> Self {
        self.couples.retain(|&(_, second)| second >= first);
        let mut crowds = Crowds::default();
        for crowd in self
            .crowds
            .iter()
            .filter(|crowd| crowd.last().is_some_and(|&last| last >= first))
        {
            crowds.push(crowd);
        }
        self.crowds = crowds;
        self
    }
}

/// Lists of three or more members, each ascending.
#[derive(Debug, Default)]
pub(crate) struct Crowds {
    members: Vec<u32>,
    ends: Vec<usize>,
}

impl Crowds {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, crowd: usize) -> &[u32] {
        let start = crowd.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.members[start..self.ends[crowd]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|crowd| self.get(crowd))
    }

    fn push(&mut self, members: &[u32]) {
        self.members.extend_from_slice(members);
        self.ends.push(self.members.len());
    }
}

/// What [`group`] needs, to be used again for the next band.
#[derive(Default)]
pub(crate) struct Scratch {
    entries: Vec<u64>,
    counts: Vec<u8>,
    shared: Vec<u64>,
    bucket: Vec<u32>,
}

/// Groups members, given ascending with the key that each has; keys are expected to be spread over all 32 bits.
///
/// `most`: about how many members there are, for speed alone. Those that are not `wanted` are left out, as if they were not
/// given; asked late, that is for few.
pub(crate) fn group(
    most: usize,
    keyed: impl Iterator<Item = (u32, u32)> + Clone,
    wanted: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
    stop: &Stop,
) -> Result<Shared> {
    let bins = (most / BIN).next_power_of_two().clamp(2, MOST_BINS);
    let mut found = Shared::default();
    let mut start = 0;
    for end in scratch.spread(keyed, bins.ilog2()) {
        stop.check()?;
        scratch.keep_shared(start, end);
        let Scratch { shared, bucket, .. } = scratch;
        for entries in shared.chunk_by(|a, b| a >> 32 == b >> 32).filter(|same| same.len() > 1) {
            bucket.clear();
            bucket.extend(
                entries
                    .iter()
                    .map(|&entry| entry as u32)
                    .filter(|&member| wanted(member)),
            );
            match bucket[..] {
                [] | [_] => {}
                [first, second] => found.couples.push((first, second)),
                _ => found.crowds.push(bucket),
            }
        }
        start = end;
    }
    Ok(found)
}

impl Scratch {
    /// Puts all members into bins by the first bits of their keys, in order, and returns where the bins end.
    ///
    /// An entry is the key above the member, in one integer.
    fn spread(&mut self, keyed: impl Iterator<Item = (u32, u32)> + Clone, bits: u32) -> Vec<usize> {
        let mut places = vec![0; 1 << bits];
        let bins = &mut places[..];
        let shift = 32 - bits;
        keyed.clone().for_each(|(_, key)| bins[(key >> shift) as usize] += 1);
        let mut start = 0;
        for place in bins.iter_mut() {
            (*place, start) = (start, start + *place);
        }
        self.entries.resize(start, 0);
        let entries = &mut self.entries[..];
        keyed.for_each(|(member, key)| {
            let place = &mut bins[(key >> shift) as usize];
            entries[*place] = u64::from(key) << 32 | u64::from(member);
            *place += 1;
        });
        places
    }

    /// Sorts into `shared` the entries of a bin that share a few more bits of their key with another one.
    fn keep_shared(&mut self, start: usize, end: usize) {
        let entries = &self.entries[start..end];
        self.counts.clear();
        self.counts.resize((entries.len() * SPARSE).next_power_of_two(), 0);
        let counts = &mut self.counts[..];
        // The last bits of the key, for its first ones chose the bin.
        let mask = counts.len() - 1;
        let place = |entry: u64| (entry >> 32) as usize & mask;
        for &entry in entries {
            let count = &mut counts[place(entry)];
            *count = count.saturating_add(1);
        }
        self.shared.resize(entries.len(), 0);
        let mut kept = 0;
        for &entry in entries {
            // Written whether it stays or not: which do is hard to foretell.
            self.shared[kept] = entry;
            kept += usize::from(counts[place(entry)] > 1);
        }
        self.shared.truncate(kept);
        self.shared.sort_unstable();
    }
}

/// Lets through every key of a set, and few others.
pub(crate) struct Sieve(Vec<u64>);

impl Sieve {
    pub fn new(most: usize, keyed: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut sieve = Self(vec![0; (most * SPARSE / 64).next_power_of_two()]);
        for (_, key) in keyed {
            let (word, bit) = sieve.place(key);
            sieve.0[word] |= bit;
        }
        sieve
    }

    pub fn lets(&self, key: u32) -> bool {
        let (word, bit) = self.place(key);
        self.0[word] & bit != 0
    }

    fn place(&self, key: u32) -> (usize, u64) {
        ((key as usize / 64) & (self.0.len() - 1), 1 << (key % 64))
    }
}
