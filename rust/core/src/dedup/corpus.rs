//! Whom a search for near-duplicates looks at, and where it puts the links it finds. Knows no way of searching.

use std::hint::black_box;

use rayon::prelude::*;

use super::Edge;
use super::cluster::UnionFind;
use super::exact::{NONE, Nodes};
use crate::ragged::Texts;
use crate::{Result, shingle};

/// Tokens in a cache line.
const LINE: usize = 16;

/// Members that may be linked: distinct texts, each of a group. Members of unlike groups are never linked.
pub(crate) trait Source: Sync {
    fn len(&self) -> usize;

    fn group(&self, member: u32) -> i64;

    /// Tokens in a shingle.
    fn ngram(&self) -> usize;

    /// The tokens of a member; `buffer` holds them where they do not lie in memory as they are.
    fn tokens<'b>(&'b self, member: u32, buffer: &'b mut Vec<u32>) -> Result<&'b [u32]>;

    /// A number of the group of a member, to be mixed into hash keys so that unlike groups never meet.
    fn salt(&self, member: u32) -> u64 {
        shingle::mix(self.group(member) as u64)
    }

    /// Has the tokens of members brought near, where that makes sense.
    fn fetch(&self, _members: impl Iterator<Item = u32> + Clone, _buffer: &mut Vec<u32>) {}

    /// The hashes of all windows of a member, with repeats; they lie in `out`.
    fn windows<'b>(&self, member: u32, buffer: &mut Vec<u32>, out: &'b mut Vec<u64>) -> Result<&'b [u64]> {
        Ok(shingle::windows(self.tokens(member, buffer)?, self.ngram(), out))
    }
}

/// The distinct texts of a batch. Empty texts are left out: they have no shingles.
pub(crate) struct Corpus<'a> {
    texts: &'a dyn Texts,
    nodes: &'a Nodes,
    ngram: usize,
    /// The first rows of the nodes that take part, ascending; positions in this list are the members of the search. `None`
    /// where members are rows.
    rows: Option<Vec<u32>>,
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
            rows: Some(rows),
            ..Self::of_rows(texts, nodes, ngram)
        }
    }

    /// All rows as members, so that a member's number is its row; whom that is wrong for, [`Corpus::absent`] tells.
    pub fn of_rows(texts: &'a dyn Texts, nodes: &'a Nodes, ngram: usize) -> Self {
        Self {
            texts,
            nodes,
            ngram,
            rows: None,
            grouped: nodes.group.windows(2).any(|pair| pair[0] != pair[1]),
        }
    }

    /// Which rows take no part: null and empty ones, and copies of earlier ones.
    pub fn absent(&self) -> Vec<bool> {
        let absent = |(row, &node): (usize, &u32)| {
            node == NONE || self.nodes.first[node as usize] as usize != row || self.texts.length(row) == 0
        };
        self.nodes.of_row.par_iter().enumerate().map(absent).collect()
    }

    fn row(&self, member: u32) -> usize {
        let row = self.rows.as_ref().map_or(member, |rows| rows[member as usize]);
        row as usize
    }

    pub fn node(&self, member: u32) -> u32 {
        self.nodes.of_row[self.row(member)]
    }

    /// The sorted shingle set of a member.
    pub fn set(&self, member: u32) -> Vec<u64> {
        let mut buffer = Vec::new();
        shingle::set(
            self.texts.read(self.row(member), &mut buffer).unwrap_or(&[]),
            self.ngram,
        )
    }
}

impl Source for Corpus<'_> {
    fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.texts.rows(), Vec::len)
    }

    /// 0 where there is only one.
    fn group(&self, member: u32) -> i64 {
        if self.grouped {
            self.nodes.group[self.node(member) as usize]
        } else {
            0
        }
    }

    fn ngram(&self) -> usize {
        self.ngram
    }

    fn tokens<'b>(&'b self, member: u32, buffer: &'b mut Vec<u32>) -> Result<&'b [u32]> {
        Ok(self.texts.read(self.row(member), buffer).unwrap_or(&[]))
    }

    /// Texts lie far apart in memory, and one look at many of them costs hardly more than one at a single text: a processor
    /// goes on while it waits, but not past an address that it waits for, so where they lie is looked up before.
    fn fetch(&self, members: impl Iterator<Item = u32> + Clone, buffer: &mut Vec<u32>) {
        let rows = members.map(|member| self.row(member));
        black_box(rows.clone().map(|row| self.texts.length(row)).sum::<usize>());
        for row in rows {
            let lines = self.texts.read(row, buffer).unwrap_or(&[]).iter().step_by(LINE);
            black_box(lines.fold(0, |all, token| all ^ token));
        }
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
        Self::going_on(forest.then(|| UnionFind::new(members)))
    }

    /// Starts from sets that are connected already.
    pub fn going_on(sets: Option<UnionFind>) -> Self {
        Self {
            edges: Vec::new(),
            sets,
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
