//! Locality-sensitive hashing: texts whose keys agree in a band are compared, one band at a time.
//!
//! Bands are worked off in order and the buckets of a band are independent of one another, so the result is the
//! same on any number of threads.

use rayon::prelude::*;

use super::Edge;
use super::cluster::UnionFind;
use super::minhash::{self, Sketcher};
use super::near::{Corpus, Links};
use crate::Result;
use crate::run::Stop;
use crate::shingle::Comparer;

/// In a bucket, each text is compared with this many predecessors ...
const WINDOW: usize = 256;
/// ... and with the first few texts of the bucket. Other pairs of an oversized bucket count as uncompared.
const LEADERS: usize = 16;

/// The keys of all members, and in which bands a member's bucket was too large to compare in full.
struct Sketches {
    bands: usize,
    keys: Vec<u32>,
    oversized: Vec<u64>,
}

impl Sketches {
    fn new(corpus: &Corpus<'_>, threshold: f64, stop: &Stop) -> Result<Self> {
        let sketcher = Sketcher::new(threshold);
        let bands = sketcher.bands();
        let mut keys = vec![0; corpus.len() * bands];
        keys.par_chunks_exact_mut(bands).enumerate().try_for_each_init(
            <(Vec<u32>, minhash::Scratch)>::default,
            |(buffer, scratch), (member, keys)| {
                let salt = corpus.salt(member as u32);
                let tokens = corpus.tokens(member as u32, buffer);
                sketcher.keys(tokens, corpus.ngram(), salt, scratch, keys);
                stop.check()
            },
        )?;
        Ok(Self {
            bands,
            keys,
            oversized: vec![0; corpus.len()],
        })
    }

    fn key(&self, member: u32, band: usize) -> u32 {
        self.keys[member as usize * self.bands + band]
    }

    /// Members by key, then number: the key above the number, in one integer.
    fn sorted(&self, band: usize) -> Vec<u64> {
        let mut entries: Vec<_> = (0..self.oversized.len() as u32)
            .into_par_iter()
            .map(|member| u64::from(self.key(member, band)) << 32 | u64::from(member))
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
        let buckets: Vec<&[u64]> = sorted
            .chunk_by(|a, b| a >> 32 == b >> 32)
            .filter(|bucket| bucket.len() > 1)
            .collect();
        let found: Result<Vec<_>> = buckets
            .par_iter()
            .map_init(Scratch::default, |scratch, entries| {
                let bucket = Bucket {
                    corpus,
                    sketches: &sketches,
                    entries,
                    band,
                    joined: links
                        .forest()
                        .then(|| connected(entries.iter().map(|&entry| links.label(entry as u32)))),
                };
                bucket.compare(threshold, scratch, stop)
            })
            .collect();
        for (edges, uncompared) in found? {
            links.extend(edges);
            links.uncompared += uncompared;
        }
        for &entry in buckets
            .iter()
            .filter(|bucket| bucket.len() > WINDOW + 1)
            .flat_map(|bucket| bucket.iter())
        {
            sketches.oversized[entry as u32 as usize] |= 1 << band;
        }
    }
    Ok(())
}

/// What a thread needs to compare texts.
#[derive(Default)]
struct Scratch {
    comparer: Comparer,
    tokens: Vec<u32>,
    shingles: Vec<u64>,
}

/// Members that share a key.
struct Bucket<'a> {
    corpus: &'a Corpus<'a>,
    sketches: &'a Sketches,
    entries: &'a [u64],
    band: usize,
    /// What is known to be connected, by position; `None` where every link is wanted.
    joined: Option<UnionFind>,
}

impl Bucket<'_> {
    fn compare(mut self, threshold: f64, scratch: &mut Scratch, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
        let mut edges = Vec::new();
        let mut uncompared = 0;
        for place in 1..self.entries.len() {
            stop.check()?;
            let nearest = place.saturating_sub(WINDOW);
            let leaders = LEADERS.min(nearest);
            uncompared += (nearest - leaders) as u64;
            let mut taken = false;
            for earlier in (0..leaders).chain(nearest..place) {
                if !self.is_news(earlier, place) {
                    continue;
                }
                if !taken {
                    self.corpus
                        .windows(self.member(place), &mut scratch.tokens, &mut scratch.shingles);
                    scratch.comparer.take(&scratch.shingles);
                    taken = true;
                }
                self.corpus
                    .windows(self.member(earlier), &mut scratch.tokens, &mut scratch.shingles);
                let Some(jaccard) = scratch.comparer.jaccard_from(&scratch.shingles, threshold) else {
                    continue;
                };
                if let Some(sets) = &mut self.joined {
                    sets.join(earlier as u32, place as u32);
                }
                let (i, j) = (self.member(earlier), self.member(place));
                edges.push(Edge { i, j, jaccard });
            }
        }
        Ok((edges, uncompared))
    }

    fn member(&self, place: usize) -> u32 {
        self.entries[place] as u32
    }

    /// Whether a link between two places would say anything new, and may be.
    fn is_news(&self, a: usize, b: usize) -> bool {
        if let Some(sets) = &self.joined
            && sets.root(a as u32) == sets.root(b as u32)
        {
            return false;
        }
        let (i, j) = (self.member(a), self.member(b));
        // Keys of unlike groups are unlike but for a collision, which must not merge them either.
        self.corpus.group(i) == self.corpus.group(j) && !self.sketches.met_before(i, j, self.band)
    }
}

/// Positions with equal labels, joined.
fn connected(labels: impl ExactSizeIterator<Item = u32>) -> UnionFind {
    let mut sets = UnionFind::new(labels.len());
    let mut order: Vec<(u32, u32)> = labels.zip(0..).collect();
    order.sort_unstable();
    for pair in order.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        sets.join(pair[0].1, pair[1].1);
    }
    sets
}
