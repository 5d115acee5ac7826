//! Near-duplicates: which nodes of one group share enough n-grams. Candidates come from one of two places
//! ([`super::lsh`] or [`super::prefix`]); every link is verified on the whole shingle sets before it counts.

use rayon::prelude::*;

use super::cluster::UnionFind;
use super::exact::Nodes;
use super::{Edge, Mode, lsh, prefix};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Result, shingle};

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    pub threshold: f64,
    pub mode: Mode,
    /// Only as many links as it takes to connect what is connected, instead of all of them.
    pub forest: bool,
}

/// The distinct texts that may be linked. Empty texts are left out: they have no shingles.
pub(crate) struct Corpus<'a> {
    texts: &'a dyn Texts,
    nodes: &'a Nodes,
    ngram: usize,
    /// The first rows of the nodes that take part, ascending; positions in this list are the members of the search.
    rows: Vec<u32>,
    /// Whether there is more than one group.
    grouped: bool,
}

impl<'a> Corpus<'a> {
    pub fn new(texts: &'a dyn Texts, nodes: &'a Nodes, ngram: usize, wanted: impl Fn(u32) -> bool) -> Self {
        let has_tokens = |row: u32| texts.length(row as usize) > 0;
        let rows = (0..)
            .zip(&nodes.first)
            .filter(|&(node, &row)| has_tokens(row) && wanted(node))
            .map(|(_, &row)| row)
            .collect();
        Self {
            texts,
            nodes,
            ngram,
            rows,
            grouped: nodes.group.windows(2).any(|pair| pair[0] != pair[1]),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn node(&self, member: u32) -> u32 {
        self.nodes.of_row[self.rows[member as usize] as usize]
    }

    /// A number of the group of a member, to be mixed into hash keys so that unlike groups never meet.
    pub fn salt(&self, member: u32) -> u64 {
        shingle::mix(self.group(member) as u64)
    }

    /// The group of a member, 0 where there is only one.
    pub fn group(&self, member: u32) -> i64 {
        if self.grouped {
            self.nodes.group[self.node(member) as usize]
        } else {
            0
        }
    }

    /// Tokens in a shingle.
    pub fn ngram(&self) -> usize {
        self.ngram
    }

    /// The tokens of a member; `buffer` holds them when they had to be widened.
    pub fn tokens<'b>(&'b self, member: u32, buffer: &'b mut Vec<u32>) -> &'b [u32] {
        let row = self.rows[member as usize] as usize;
        self.texts.read(row, buffer).unwrap_or(&[])
    }

    /// The hashes of all windows of a member, with repeats; they lie in `out`.
    pub fn windows<'b>(&self, member: u32, buffer: &mut Vec<u32>, out: &'b mut Vec<u64>) -> &'b [u64] {
        shingle::windows(self.tokens(member, buffer), self.ngram, out)
    }

    /// The sorted shingle set of a member.
    pub fn set(&self, member: u32) -> Vec<u64> {
        shingle::set(self.tokens(member, &mut Vec::new()), self.ngram)
    }
}

/// Gathers verified links; in a forest, only those that connect something new.
pub(crate) struct Links {
    pub edges: Vec<Edge>,
    sets: Option<UnionFind>,
    /// Pairs in oversized buckets that were never compared.
    pub uncompared: u64,
}

impl Links {
    pub fn new(members: usize, forest: bool) -> Self {
        Self {
            edges: Vec::new(),
            sets: forest.then(|| UnionFind::new(members)),
            uncompared: 0,
        }
    }

    /// Whether only a forest is wanted.
    pub fn forest(&self) -> bool {
        self.sets.is_some()
    }

    /// A label that two members share where a link between them would say nothing new.
    pub fn label(&self, member: u32) -> u32 {
        self.sets.as_ref().map_or(member, |sets| sets.root(member))
    }

    /// Adds links in the order given, which must not depend on threads.
    pub fn extend(&mut self, edges: impl IntoIterator<Item = Edge>) {
        for edge in edges {
            if self.sets.as_mut().is_none_or(|sets| sets.join(edge.i, edge.j)) {
                self.edges.push(edge);
            }
        }
    }
}

/// All links (or a forest of them) between the members, as edges between nodes in ascending order.
pub(crate) fn links(corpus: &Corpus<'_>, search: Search, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
    let mut found = Links::new(corpus.len(), search.forest);
    match search.mode {
        Mode::Lsh => lsh::search(corpus, search.threshold, &mut found, stop)?,
        Mode::Exact => prefix::search(corpus, search.threshold, &mut found, stop)?,
    }
    let mut edges = found.edges;
    // Members ascend with their nodes, so i < j carries over.
    edges
        .par_iter_mut()
        .for_each(|edge| (edge.i, edge.j) = (corpus.node(edge.i), corpus.node(edge.j)));
    edges.par_sort_unstable_by_key(|edge| (edge.i, edge.j));
    edges.dedup_by_key(|edge| (edge.i, edge.j)); // found as a couple and in a crowd
    Ok((edges, found.uncompared))
}
