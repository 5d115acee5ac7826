//! Locality-sensitive hashing: texts whose keys agree in a band are compared, one band at a time.
//!
//! Bands are worked off in order and the buckets of a band are independent of one another, so the result is the
//! same on any number of threads.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Edge;
use super::cluster::UnionFind;
use super::minhash::Sketcher;
use super::near::{Corpus, Links};
use crate::run::Stop;
use crate::{Result, shingle};

/// In a bucket, each text is compared with this many predecessors ...
const WINDOW: usize = 256;
/// ... and with the first few texts of the bucket. Other pairs of an oversized bucket count as uncompared.
const LEADERS: usize = 16;

/// The keys of all members, and in which bands a member's bucket was too large to compare in full.
struct Sketches {
    bands: usize,
    keys: Vec<u64>,
    oversized: Vec<u64>,
}

impl Sketches {
    fn new(corpus: &Corpus<'_>, threshold: f64, stop: &Stop) -> Result<Self> {
        let sketcher = Sketcher::new(threshold);
        let bands = sketcher.bands();
        let mut keys = vec![0; corpus.len() * bands];
        keys.par_chunks_exact_mut(bands).enumerate().try_for_each_init(
            <(Vec<u32>, Vec<u64>)>::default,
            |(tokens, shingles), (member, keys)| {
                corpus.windows(member as u32, tokens, shingles);
                sketcher.keys(shingles, corpus.salt(member as u32), keys);
                stop.check()
            },
        )?;
        Ok(Self {
            bands,
            keys,
            oversized: vec![0; corpus.len()],
        })
    }

    fn key(&self, member: u32, band: usize) -> u64 {
        self.keys[member as usize * self.bands + band]
    }

    /// Members by key, then number.
    fn sorted(&self, band: usize) -> Vec<(u64, u32)> {
        let mut entries: Vec<_> = (0..self.oversized.len() as u32)
            .into_par_iter()
            .map(|m| (self.key(m, band), m))
            .collect();
        entries.par_sort_unstable();
        entries
    }

    /// Whether an earlier band already brought the two together, in a bucket that was compared in full.
    fn met_before(&self, a: u32, b: u32, band: usize) -> bool {
        let oversized = self.oversized[a as usize];
        (0..band).any(|band| oversized >> band & 1 == 0 && self.key(a, band) == self.key(b, band))
    }
}

/// Adds the links between members that agree in a band and reach the threshold.
pub(crate) fn search(corpus: &Corpus<'_>, threshold: f64, links: &mut Links, stop: &Stop) -> Result<()> {
    let mut sketches = Sketches::new(corpus, threshold, stop)?;
    for band in 0..sketches.bands {
        stop.check()?;
        let sorted = sketches.sorted(band);
        let buckets: Vec<_> = sorted
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|bucket| bucket.len() > 1)
            .collect();
        let found: Result<Vec<_>> = buckets
            .par_iter()
            .map(|bucket| Bucket::new(corpus, &sketches, links, bucket, band).compare(threshold, stop))
            .collect();
        for (edges, uncompared) in found? {
            links.extend(edges);
            links.uncompared += uncompared;
        }
        for bucket in buckets.iter().filter(|bucket| bucket.len() > WINDOW + 1) {
            bucket
                .iter()
                .for_each(|entry| sketches.oversized[entry.1 as usize] |= 1 << band);
        }
    }
    Ok(())
}

/// Members that share a key, with the shingle sets of those that were needed so far.
struct Bucket<'a> {
    corpus: &'a Corpus<'a>,
    sketches: &'a Sketches,
    entries: &'a [(u64, u32)],
    band: usize,
    sets: Vec<Option<Vec<u64>>>,
    /// What is known to be connected, by position; `None` where every link is wanted.
    joined: Option<UnionFind>,
}

impl<'a> Bucket<'a> {
    fn new(
        corpus: &'a Corpus<'a>,
        sketches: &'a Sketches,
        links: &Links,
        entries: &'a [(u64, u32)],
        band: usize,
    ) -> Self {
        let joined = links
            .forest()
            .then(|| connected(entries.iter().map(|entry| links.label(entry.1))));
        Self {
            corpus,
            sketches,
            entries,
            band,
            sets: vec![None; entries.len()],
            joined,
        }
    }

    fn compare(mut self, threshold: f64, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
        let mut edges = Vec::new();
        let mut uncompared = 0;
        for place in 1..self.entries.len() {
            stop.check()?;
            let nearest = place.saturating_sub(WINDOW);
            let leaders = LEADERS.min(nearest);
            uncompared += (nearest - leaders) as u64;
            for earlier in (0..leaders).chain(nearest..place) {
                edges.extend(self.verify(earlier, place, threshold));
            }
            if nearest > LEADERS {
                // The sets of texts that have left the window are not needed again.
                self.sets[nearest - 1] = None;
            }
        }
        Ok((edges, uncompared))
    }

    fn verify(&mut self, a: usize, b: usize, threshold: f64) -> Option<Edge> {
        if self
            .joined
            .as_ref()
            .is_some_and(|sets| sets.root(a as u32) == sets.root(b as u32))
        {
            return None;
        }
        let (i, j) = (self.entries[a].1, self.entries[b].1);
        // Keys of unlike groups are unlike but for a collision of 64 bits, which must not merge them either.
        if self.corpus.group(i) != self.corpus.group(j) || self.sketches.met_before(i, j, self.band) {
            return None;
        }
        self.fill(a);
        self.fill(b);
        let (Some(x), Some(y)) = (&self.sets[a], &self.sets[b]) else {
            return None;
        };
        let jaccard = shingle::jaccard_from(x, y, threshold)?;
        if let Some(sets) = &mut self.joined {
            sets.join(a as u32, b as u32);
        }
        Some(Edge { i, j, jaccard })
    }

    fn fill(&mut self, place: usize) {
        let (corpus, member) = (self.corpus, self.entries[place].1);
        self.sets[place].get_or_insert_with(|| corpus.set(member));
    }
}

/// Positions with equal labels, joined.
fn connected(labels: impl Iterator<Item = u32>) -> UnionFind {
    let labels: Vec<u32> = labels.collect();
    let mut sets = UnionFind::new(labels.len());
    let mut first = HashMap::new();
    for (place, &label) in labels.iter().enumerate() {
        sets.join(*first.entry(label).or_insert(place as u32), place as u32);
    }
    sets
}
