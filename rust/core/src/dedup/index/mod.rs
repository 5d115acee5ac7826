//! An index of texts that grows: each batch is deduplicated within itself and against all that came before.
//!
//! Whom a text meets depends only on the texts before it, so rows give the same clusters in whatever batches they come.
//! What is kept of a text in memory is its sketch and a few numbers; its tokens are read back where two texts have to be
//! compared.

mod file;
mod front;
mod members;
mod rows;
mod segment;
mod tokens;

use std::path::Path;

use rayon::prelude::*;

use self::file::IndexFile;
use self::members::{Grown, Members};
use self::segment::Segment;
use self::tokens::Tokens;
use super::cluster::UnionFind;
use super::corpus::Links;
use super::exact::{NONE, Nodes, intern_by, keys};
use super::sketches::Sketches;
use super::{Edge, Link, TextResult, check_length, check_search, lsh, reason};
use crate::ragged::{Ids, Offsets, Ragged, Texts};
use crate::run::Stop;
use crate::{Error, Result};

/// What an index is made with; it stays so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IndexOptions {
    /// Tokens in a shingle.
    pub ngram: usize,
    /// Jaccard similarity from which two texts are near-duplicates, in (0, 1].
    pub threshold: f64,
    /// What makes a cluster. The first row of a cluster is the one that stays.
    pub link: Link,
}

/// Rows expected, which matters for the layout of the sketches alone.
const EXPECTED: usize = 1 << 14;

/// All rows so far.
#[derive(Debug)]
pub struct Index {
    options: IndexOptions,
    /// The member of each row, [`NONE`] where the row is null.
    of_row: Vec<u32>,
    members: Members,
    sketches: Sketches,
    /// Members in clusters.
    sets: UnionFind,
    tokens: Tokens,
}

impl Index {
    /// An index that lives in memory, tokens and all.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options out of range.
    pub fn in_memory(options: IndexOptions) -> Result<Self> {
        check_search(options.ngram, options.threshold)?;
        Ok(Self::empty(options, Tokens::Memory(Vec::new())))
    }

    /// Opens the index in a file, or makes one. No other process can open it until it is dropped.
    ///
    /// A batch that was being added when its process was killed is not there; those before it are. An empty file is begun
    /// anew.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options out of range or unlike those of the file; [`Error::Locked`]; [`Error::BadIndex`]
    /// where the file is no index or was changed; [`Error::Io`]; [`Error::Stopped`].
    pub fn open(path: &Path, options: IndexOptions, stop: &Stop) -> Result<Self> {
        check_search(options.ngram, options.threshold)?;
        let (file, segments) = IndexFile::open(path, options)?;
        let mut index = Self::empty(options, Tokens::File(file));
        for at in segments {
            stop.check()?;
            index.load(at, stop)?;
        }
        Ok(index)
    }

    /// Whether this process may use the index: one in a file belongs to the process that opened it.
    ///
    /// # Errors
    /// [`Error::Invalid`] in a forked child.
    pub fn require_process(&self) -> Result<()> {
        match &self.tokens {
            Tokens::Memory(_) => Ok(()),
            Tokens::File(file) => file.require_process(),
        }
    }

    fn empty(options: IndexOptions, tokens: Tokens) -> Self {
        Self {
            options,
            of_row: Vec::new(),
            members: Members::default(),
            sketches: Sketches::new(options.threshold, EXPECTED),
            sets: UnionFind::new(0),
            tokens,
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.of_row.len()
    }

    /// Bytes of memory that are held for the rows, without tokens that are kept in memory.
    pub fn bytes(&self) -> usize {
        self.of_row.capacity() * size_of::<u32>() + self.members.bytes() + self.sketches.bytes() + self.sets.bytes()
    }

    /// The smallest row of each row's cluster, as things stand.
    pub fn clusters(&self) -> Vec<i64> {
        (0..self.rows()).into_par_iter().map(|row| self.cluster(row)).collect()
    }

    fn cluster(&self, row: usize) -> i64 {
        match self.of_row[row] {
            NONE => row as i64,
            member => i64::from(self.members.row[self.sets.root(member) as usize]),
        }
    }

    /// Adds rows, numbered on from those before, and says what they are duplicates of. All are added, durably where there
    /// is a file, or none.
    ///
    /// A row stays if it is the first of its cluster at this moment. A later row can connect clusters whose first rows
    /// have both stayed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for too many rows, another number of groups or in a forked child; [`Error::DiskFull`];
    /// [`Error::Io`]; [`Error::Stopped`].
    pub fn add(&mut self, texts: &dyn Texts, groups: Option<&[i64]>, stop: &Stop) -> Result<TextResult> {
        self.require_process()?;
        if let Some(groups) = groups {
            check_length("groups", groups.len(), texts.rows())?;
        }
        if self.rows() + texts.rows() > (u32::MAX / 2) as usize {
            return Err(Error::Invalid(
                "too many rows: an index holds at most 2,147,483,647; begin another one".into(),
            ));
        }
        let before = self.members.len();
        let added = self.try_add(texts, groups, stop);
        if added.is_err() {
            self.members.truncate(before);
            self.sketches.truncate(before);
        }
        added
    }

    fn try_add(&mut self, texts: &dyn Texts, groups: Option<&[i64]>, stop: &Stop) -> Result<TextResult> {
        let group = |row: usize| groups.map_or(0, |groups| groups[row]);
        let first = self.members.len() as u32;
        let keys = keys(texts, &group, stop)?;
        let nodes = intern_by(&keys, texts, group, stop)?;
        let of_node = self.meet(texts, &nodes, &keys, stop)?;
        let of_row: Vec<u32> = nodes
            .of_row
            .iter()
            .map(|&node| if node == NONE { NONE } else { of_node[node as usize] })
            .collect();
        let (edges, uncompared) = self.search(texts, first, stop)?;
        let segment = Segment {
            codes: rows::codes(texts, &of_row, &self.members, self.rows()),
            groups: (0..texts.rows()).map(group).collect(),
            edges: self.in_rows(&of_row, &edges),
        };
        self.tokens.append(&segment, texts, &mut self.members.start)?;
        Ok(self.commit(of_row, segment.edges, uncompared))
    }

    /// The member of each node of a batch: an earlier one with the same tokens in the same group, or a new one.
    fn meet(&mut self, texts: &dyn Texts, nodes: &Nodes, keys: &[u32], stop: &Stop) -> Result<Vec<u32>> {
        let hashes: Vec<u32> = nodes.first.iter().map(|&row| keys[row as usize]).collect();
        let mut found = self.members.same_as(&self.tokens, texts, nodes, &hashes, stop)?;
        for (node, member) in found.iter_mut().enumerate().filter(|(_, member)| **member == NONE) {
            let row = nodes.first[node];
            let length = texts.length(row as usize) as u32;
            *member = self
                .members
                .push(self.of_row.len() as u32 + row, length, hashes[node], nodes.group[node]);
        }
        Ok(found)
    }

    /// Sketches the new members, and links them with one another and with earlier ones.
    fn search(&mut self, texts: &dyn Texts, first: u32, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
        let source = Grown {
            members: &self.members,
            tokens: &self.tokens,
            texts,
            first,
            first_row: self.of_row.len() as u32,
            ngram: self.options.ngram,
        };
        self.sketches.extend(&source, stop)?;
        let mut sets = self.sets.clone();
        sets.grow(self.members.len());
        let (known, centres) = match self.options.link {
            Link::Component => (Some(sets), None),
            Link::Star => (None, Some(sets)),
        };
        let mut links = Links::going_on(known);
        lsh::search(&source, &self.sketches, first, self.options.threshold, &mut links, stop)?;
        let edges = match centres {
            None => links.edges,
            Some(sets) => spokes(sets, links.edges),
        };
        Ok((edges, links.uncompared))
    }

    /// Links between first rows of members, and from a first row to each of the copies that come now; ascending.
    fn in_rows(&self, of_row: &[u32], edges: &[Edge]) -> Vec<Edge> {
        let row = |member: u32| self.members.row[member as usize];
        let between = edges.iter().map(|edge| Edge {
            i: row(edge.i),
            j: row(edge.j),
            jaccard: edge.jaccard,
        });
        let copies = (self.rows() as u32..)
            .zip(of_row)
            .filter(|&(j, &member)| member != NONE && row(member) != j)
            .map(|(j, &member)| Edge {
                i: row(member),
                j,
                jaccard: 1.0,
            });
        let mut all: Vec<Edge> = between.chain(copies).collect();
        all.sort_unstable_by_key(|edge| (edge.i, edge.j));
        all
    }

    /// Takes in rows that are recorded.
    fn commit(&mut self, of_row: Vec<u32>, edges: Vec<Edge>, uncompared: u64) -> TextResult {
        let first = self.rows();
        self.of_row.reserve_exact(of_row.len());
        self.of_row.extend(of_row);
        self.sets.grow(self.members.len());
        for edge in &edges {
            self.sets
                .join(self.of_row[edge.i as usize], self.of_row[edge.j as usize]);
        }
        let cluster: Vec<i64> = (first..self.rows()).map(|row| self.cluster(row)).collect();
        let keep: Vec<bool> = (first as i64..)
            .zip(&cluster)
            .map(|(row, &cluster)| row == cluster)
            .collect();
        let why = |(row, &keep): (usize, &bool)| match self.of_row[row] {
            _ if keep => 0,
            member if self.members.row[member as usize] as usize == row => reason::NEAR,
            _ => reason::EXACT,
        };
        TextResult {
            reason: (first..).zip(&keep).map(why).collect(),
            keep,
            cluster,
            edges,
            uncompared,
        }
    }

    /// Takes in what a segment of the file holds.
    fn load(&mut self, at: u64, stop: &Stop) -> Result<()> {
        let Tokens::File(file) = &self.tokens else {
            return Err(Error::Internal("an index in memory has no segments".into()));
        };
        let (segment, ids, at) = file.read(at)?;
        let first = self.members.len() as u32;
        let bad = |detail: &str| file.bad(detail);
        let of_row = rows::members(&segment, &ids, at, &mut self.members, &self.of_row).map_err(bad)?;
        let (offsets, nulls) = segment.layout();
        let texts = Ragged::new(Ids::U32(&ids), Offsets::I64(&offsets), Some(nulls))?;
        let source = Grown {
            members: &self.members,
            tokens: &self.tokens,
            texts: &texts,
            first,
            first_row: self.of_row.len() as u32,
            ngram: self.options.ngram,
        };
        self.sketches.extend(&source, stop)?;
        self.commit(of_row, segment.edges, 0);
        Ok(())
    }
}

/// The links between centres and their members: in the order they came, each text that no centre is linked to becomes one.
fn spokes(mut sets: UnionFind, mut edges: Vec<Edge>) -> Vec<Edge> {
    edges.sort_unstable_by_key(|edge| (edge.j, edge.i));
    edges.dedup_by_key(|edge| (edge.j, edge.i));
    edges.retain(|edge| {
        let free = sets.root(edge.j) == edge.j && sets.root(edge.i) == edge.i;
        free && sets.join(edge.i, edge.j)
    });
    edges
}
