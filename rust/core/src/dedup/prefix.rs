//! The exact join: finds every pair at or above the threshold, by prefix filtering (Chaudhuri, Ganti and Kaushik, 2006).
//!
//! Shingles have one global order, rare ones first. Two sets that are similar enough share a shingle among the first
//! few of both, so only texts that meet there are compared. Any order is right; rarity only makes it quick.

use rayon::prelude::*;

use super::Edge;
use super::corpus::{Corpus, Links, Source};
use crate::run::Stop;
use crate::{Result, shingle};

/// Members compared between two updates of what is connected. Fixed, so that threads change nothing.
const BATCH: usize = 1024;
/// Slack for sizes computed in floating point: admits a candidate too many, never one too few.
const SLACK: f64 = 1e-9;

/// Adds the links between all members that reach the threshold.
pub(crate) fn search(corpus: &Corpus<'_>, threshold: f64, links: &mut Links, stop: &Stop) -> Result<()> {
    let index = Index::new(corpus, threshold, stop)?;
    let members: Vec<u32> = (0..corpus.len() as u32).collect();
    for batch in members.chunks(BATCH) {
        let found: Result<Vec<_>> = batch
            .par_iter()
            .map_init(Vec::new, |met, &member| {
                stop.check()?;
                Ok(index.matches(member, threshold, links, met))
            })
            .collect();
        links.extend(found?.into_iter().flatten());
    }
    Ok(())
}

/// For each shingle of a prefix, the members that have it there.
struct Index {
    sets: Vec<Vec<u64>>,
    prefixes: Vec<Vec<u64>>,
    /// (shingle mixed with the group, member), sorted.
    postings: Vec<(u64, u32)>,
    groups: Vec<i64>,
}

impl Index {
    fn new(corpus: &Corpus<'_>, threshold: f64, stop: &Stop) -> Result<Self> {
        let all = 0..corpus.len() as u32;
        let sets: Result<Vec<_>> = all
            .clone()
            .into_par_iter()
            .map(|m| stop.check().map(|()| corpus.set(m)))
            .collect();
        let sets = sets?;
        let counts = Counts::new(&sets);
        let prefixes: Vec<Vec<u64>> = all
            .clone()
            .into_par_iter()
            .map(|member| counts.prefix(&sets[member as usize], threshold, corpus.salt(member)))
            .collect();
        let mut postings: Vec<(u64, u32)> = Vec::with_capacity(prefixes.iter().map(Vec::len).sum());
        for (member, prefix) in prefixes.iter().enumerate() {
            postings.extend(prefix.iter().map(|&key| (key, member as u32)));
        }
        postings.par_sort_unstable();
        stop.check()?;
        Ok(Self {
            sets,
            prefixes,
            postings,
            groups: all.map(|member| corpus.group(member)).collect(),
        })
    }

    /// The links from a member to smaller ones. `met` is scratch.
    fn matches(&self, member: u32, threshold: f64, links: &Links, met: &mut Vec<u32>) -> Vec<Edge> {
        met.clear();
        for &key in &self.prefixes[member as usize] {
            let start = self.postings.partition_point(|&(other, _)| other < key);
            let run = self.postings[start..]
                .iter()
                .take_while(|&&(other, m)| other == key && m < member);
            met.extend(
                run.map(|&(_, m)| m)
                    .filter(|&m| self.alike_in_size(m, member, threshold)),
            );
        }
        met.sort_unstable();
        met.dedup();
        let label = links.forest().then(|| links.label(member));
        met.iter()
            .filter(|&&other| self.groups[other as usize] == self.groups[member as usize])
            .filter(|&&other| label.is_none_or(|label| links.label(other) != label))
            .filter_map(|&other| {
                let jaccard =
                    shingle::jaccard_from(&self.sets[other as usize], &self.sets[member as usize], threshold)?;
                Some(Edge {
                    i: other,
                    j: member,
                    jaccard,
                })
            })
            .collect()
    }

    fn alike_in_size(&self, a: u32, b: u32, threshold: f64) -> bool {
        let (a, b) = (self.sets[a as usize].len(), self.sets[b as usize].len());
        a.min(b) as f64 >= threshold * a.max(b) as f64 - SLACK
    }
}

/// How often shingles occur, roughly: shingles that fall together share a count.
struct Counts(Vec<u32>);

impl Counts {
    fn new(sets: &[Vec<u64>]) -> Self {
        let total: usize = sets.iter().map(Vec::len).sum();
        let mut counts = vec![0u32; total.next_power_of_two().clamp(1 << 10, 1 << 24)];
        let mask = counts.len() - 1;
        for &shingle in sets.iter().flatten() {
            let count = &mut counts[shingle as usize & mask];
            *count = count.saturating_add(1);
        }
        Self(counts)
    }

    /// The rarest shingles of a set, as many as have to be looked at, mixed with the salt of the group.
    fn prefix(&self, set: &[u64], threshold: f64, salt: u64) -> Vec<u64> {
        // A match shares at least threshold * len shingles, so at most len - that many are not shared.
        let shared = ((threshold * set.len() as f64 - SLACK).ceil() as usize).clamp(1, set.len());
        let length = set.len() - shared + 1;
        let mut order: Vec<(u32, u64)> = set
            .iter()
            .map(|&shingle| (self.0[shingle as usize & (self.0.len() - 1)], shingle))
            .collect();
        if length < order.len() {
            order.select_nth_unstable(length);
            order.truncate(length);
        }
        order
            .into_iter()
            .map(|(_, shingle)| shingle::mix(shingle ^ salt))
            .collect()
    }
}
