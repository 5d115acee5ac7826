//! Locality-sensitive hashing: texts whose keys agree in a band are compared.
//!
//! Crowds, which share a key with several, come first, one band after the other; what they join need not be compared as a
//! couple. Crowds of a band are independent of one another, and so are couples, so the result is the same on any number
//! of threads.

use rayon::prelude::*;

use super::Edge;
use super::buckets::{self, Shared};
use super::cluster::UnionFind;
use super::minhash::{self, Sketcher};
use super::near::{Corpus, Links};
use super::verify::{self, Verifier};
use crate::run::Stop;
use crate::{Error, Result};

/// In a crowd, each text is compared with this many predecessors ...
pub(super) const WINDOW: usize = 256;
/// ... and with the first few texts of the crowd. Other pairs of an oversized crowd count as uncompared.
pub(super) const LEADERS: usize = 16;

/// Members at most whose keys lie together, band by band, so that a band is read without the others.
const BLOCK: usize = 1024;
/// Blocks at least, for as many threads to fill them.
const BLOCKS: usize = 64;

/// The keys of all members, and in which bands a member's bucket was too large to compare in full.
struct Sketches {
    members: usize,
    bands: usize,
    /// Members in a block.
    block: usize,
    /// Blocks of [bands, block].
    keys: Vec<u32>,
    oversized: Vec<u64>,
}

impl Sketches {
    fn new(corpus: &Corpus<'_>, threshold: f64, stop: &Stop) -> Result<Self> {
        let (sketcher, members) = (Sketcher::new(threshold), corpus.len());
        let bands = sketcher.bands();
        let size = (members / BLOCKS).clamp(1, BLOCK);
        let mut keys = vec![0; members.div_ceil(size) * size * bands];
        keys.par_chunks_exact_mut(size * bands).enumerate().try_for_each_init(
            || (Vec::new(), minhash::Scratch::default(), vec![0; bands]),
            |(buffer, scratch, own), (block, keys)| {
                for (place, member) in (block * size..members).take(size).enumerate() {
                    stop.check()?;
                    let salt = corpus.salt(member as u32);
                    let tokens = corpus.tokens(member as u32, buffer);
                    sketcher.keys(tokens, corpus.ngram(), salt, scratch, own);
                    for (band, &key) in own.iter().enumerate() {
                        keys[band * size + place] = key;
                    }
                }
                Ok::<_, Error>(())
            },
        )?;
        Ok(Self {
            members,
            bands,
            block: size,
            keys,
            oversized: vec![0; members],
        })
    }

    fn key(&self, member: u32, band: usize) -> u32 {
        let (block, place) = (member as usize / self.block, member as usize % self.block);
        self.keys[(block * self.bands + band) * self.block + place]
    }

    /// The keys of all members in one band, in pieces.
    fn band(&self, band: usize) -> impl Iterator<Item = &[u32]> + Clone {
        let (size, members) = (self.block, self.members);
        let blocks = self.keys.chunks_exact(size * self.bands).enumerate();
        blocks.map(move |(block, keys)| &keys[band * size..][..size.min(members - block * size)])
    }

    /// The members that share a key, band by band.
    fn shared(&self, stop: &Stop) -> Result<Vec<Shared>> {
        let bands: Vec<usize> = (0..self.bands).collect();
        // A part for each thread: what a part needs is large, and memory is slow to get.
        let parts = bands.par_chunks(self.bands.div_ceil(rayon::current_num_threads()));
        let found: Result<Vec<Vec<Shared>>> = parts
            .map(|bands| {
                let mut scratch = buckets::Scratch::default();
                let group = |&band: &usize| buckets::group(self.members, self.band(band), &mut scratch, stop);
                bands.iter().map(group).collect()
            })
            .collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// Whether an earlier band already brought the two together, in a crowd that was compared in full.
    fn met_before(&self, a: u32, b: u32, band: usize) -> bool {
        let oversized = self.oversized[a as usize];
        (0..band).any(|band| oversized >> band & 1 == 0 && self.key(a, band) == self.key(b, band))
    }
}

/// Adds the links between members that agree in a band and reach the threshold.
pub(crate) fn search(corpus: &Corpus<'_>, threshold: f64, links: &mut Links, stop: &Stop) -> Result<()> {
    let mut sketches = Sketches::new(corpus, threshold, stop)?;
    let (couples, crowds): (Vec<_>, Vec<_>) = sketches
        .shared(stop)?
        .into_iter()
        .map(|shared| (shared.couples, shared.crowds))
        .unzip();
    for (band, crowds) in crowds.iter().enumerate() {
        let found: Result<Vec<_>> = (0..crowds.len())
            .into_par_iter()
            .map_init(
                || Verifier::new(corpus, threshold),
                |verifier, crowd| {
                    let members = crowds.get(crowd);
                    let joined = links.forest().then(|| connected(links, members));
                    let crowd = Crowd {
                        corpus,
                        sketches: &sketches,
                        members,
                        band,
                        joined,
                    };
                    crowd.compare(verifier, stop)
                },
            )
            .collect();
        for (edges, uncompared) in found? {
            links.extend(edges);
            links.uncompared += uncompared;
        }
        for &member in crowds.iter().filter(|members| members.len() > WINDOW + 1).flatten() {
            sketches.oversized[member as usize] |= 1 << band;
        }
    }
    let couples = distinct(couples.concat(), |&(i, j)| {
        corpus.group(i) == corpus.group(j) && !(links.forest() && links.label(i) == links.label(j))
    });
    links.extend(verify::links(corpus, threshold, &couples, stop)?);
    Ok(())
}

/// Couples that are wanted, each once, ascending: the texts of the smaller members are then read in the order they lie in.
fn distinct(mut couples: Vec<(u32, u32)>, wanted: impl Fn(&(u32, u32)) -> bool + Sync) -> Vec<(u32, u32)> {
    couples.par_sort_unstable();
    couples.dedup();
    couples.retain(wanted);
    couples
}

/// More than two members that share a key.
struct Crowd<'a> {
    corpus: &'a Corpus<'a>,
    sketches: &'a Sketches,
    members: &'a [u32],
    band: usize,
    /// What is known to be connected, by position; `None` where every link is wanted.
    joined: Option<UnionFind>,
}

impl Crowd<'_> {
    fn compare(mut self, verifier: &mut Verifier<'_>, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
        let mut edges = Vec::new();
        let mut uncompared = 0;
        for place in 1..self.members.len() {
            stop.check()?;
            let nearest = place.saturating_sub(WINDOW);
            let leaders = LEADERS.min(nearest);
            uncompared += (nearest - leaders) as u64;
            for earlier in (0..leaders).chain(nearest..place) {
                if !self.is_news(earlier, place) {
                    continue;
                }
                if let Some(edge) = verifier.link(self.member(place), self.member(earlier)) {
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
        self.corpus.group(i) == self.corpus.group(j) && !self.sketches.met_before(i, j, self.band)
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
