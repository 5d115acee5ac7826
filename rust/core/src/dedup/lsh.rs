//! Locality-sensitive hashing: texts whose keys agree in a band are compared.
//!
//! Crowds, which share a key with several, come first, one band after the other; what they join need not be compared as a
//! couple. Crowds of a band are independent of one another, and so are couples, so the result is the same on any number
//! of threads.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Edge;
use super::cluster::UnionFind;
use super::corpus::{Links, Source};
use super::sketches::Sketches;
use super::verify::{self, Verifier};
use crate::Result;
use crate::run::Stop;

/// In a crowd, each text is compared with this many predecessors ...
pub(super) const WINDOW: usize = 256;
/// ... and with the first few texts of the crowd. Other pairs of an oversized crowd count as uncompared.
pub(super) const LEADERS: usize = 16;

/// Adds the links between members that agree in a band and reach the threshold.
///
/// `first`: one of the two has to be this member or a later one; the others are known already.
pub(crate) fn search<S: Source>(
    source: &S,
    sketches: &Sketches,
    first: u32,
    threshold: f64,
    links: &mut Links,
    stop: &Stop,
) -> Result<()> {
    let mut oversized: HashMap<u32, u64> = HashMap::new();
    let (couples, crowds): (Vec<_>, Vec<_>) = sketches
        .shared(first, stop)?
        .into_iter()
        .map(|shared| (shared.couples, shared.crowds))
        .unzip();
    for (band, crowds) in crowds.iter().enumerate() {
        let found: Result<Vec<_>> = (0..crowds.len())
            .into_par_iter()
            .map_init(
                || Verifier::new(source, threshold),
                |verifier, crowd| {
                    let members = crowds.get(crowd);
                    let joined = links.forest().then(|| connected(links, members));
                    let crowd = Crowd {
                        source,
                        sketches,
                        oversized: &oversized,
                        members,
                        band,
                        joined,
                    };
                    crowd.compare(first, verifier, stop)
                },
            )
            .collect();
        for (edges, uncompared) in found? {
            links.extend(edges);
            links.uncompared += uncompared;
        }
        for &member in crowds.iter().filter(|members| members.len() > WINDOW + 1).flatten() {
            *oversized.entry(member).or_default() |= 1 << band;
        }
    }
    let couples = distinct(couples.concat(), |&(i, j)| {
        source.group(i) == source.group(j) && !(links.forest() && links.label(i) == links.label(j))
    });
    links.extend(verify::links(source, threshold, &couples, stop)?);
    Ok(())
}

/// Couples that are wanted, each once, ascending: the texts of the smaller members are then read in the order they lie in.
fn distinct(mut couples: Vec<(u32, u32)>, wanted: impl Fn(&(u32, u32)) -> bool + Sync) -> Vec<(u32, u32)> {
    couples.par_sort_unstable_by_key(|&(i, j)| u64::from(i) << 32 | u64::from(j));
    couples.dedup();
    couples.retain(wanted);
    couples
}

/// More than two members that share a key.
struct Crowd<'a, S> {
    source: &'a S,
    sketches: &'a Sketches,
    /// In which bands a member's crowd was too large to compare in full; members without such a band are left out.
    oversized: &'a HashMap<u32, u64>,
    members: &'a [u32],
    band: usize,
    /// What is known to be connected, by position; `None` where every link is wanted.
    joined: Option<UnionFind>,
}

impl<S: Source> Crowd<'_, S> {
    /// Compares the members from `first` on with earlier ones; where a member stands in the crowd, and so whom it meets,
    /// does not depend on what comes later.
    fn compare(mut self, first: u32, verifier: &mut Verifier<'_, S>, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
        let mut edges = Vec::new();
        let mut uncompared = 0;
        let known = self.members.partition_point(|&member| member < first);
        for place in known.max(1)..self.members.len() {
            stop.check()?;
            let nearest = place.saturating_sub(WINDOW);
            let leaders = LEADERS.min(nearest);
            uncompared += (nearest - leaders) as u64;
            for earlier in (0..leaders).chain(nearest..place) {
                if !self.is_news(earlier, place) {
                    continue;
                }
                if let Some(edge) = verifier.link(self.member(place), self.member(earlier))? {
                    edges.push(edge);
                    if let Some(sets) = &mut self.joined {
                        sets.join(earlier as u32, place as u32);
                    }
                }
            }
        }
        Ok((edges, uncompared))
    }

    fn member(&self, place: usize) -> u32 {
        self.members[place]
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
        self.source.group(i) == self.source.group(j) && !self.met_before(i, j)
    }

    /// Whether an earlier band already brought the two together, in a crowd that was compared in full.
    fn met_before(&self, i: u32, j: u32) -> bool {
        let oversized = self.oversized.get(&i).copied().unwrap_or_default();
        self.sketches.met(i, j, self.band, oversized)
    }
}

/// Positions of members that are connected, joined.
fn connected(links: &Links, members: &[u32]) -> UnionFind {
    let mut sets = UnionFind::new(members.len());
    let mut order: Vec<(u32, u32)> = members.iter().map(|&member| links.label(member)).zip(0..).collect();
    order.sort_unstable();
    for pair in order.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        sets.join(pair[0].1, pair[1].1);
    }
    sets
}
