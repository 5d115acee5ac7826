//! The distinct texts of an index: a few numbers of each. Their tokens lie elsewhere.

use rayon::prelude::*;

use super::tokens::Tokens;
use crate::Result;
use crate::dedup::buckets::{self, Scratch, Sieve};
use crate::dedup::corpus::Source;
use crate::dedup::exact::{NONE, Nodes};
use crate::ragged::Texts;
use crate::run::Stop;

/// Columns, one entry a member, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// The first row that has this text.
    pub row: Vec<u32>,
    /// Where its tokens begin; members that are not recorded yet have no entry.
    pub start: Vec<u64>,
    length: Vec<u32>,
    hash: Vec<u32>,
    group: Vec<i64>,
}

impl Members {
    pub fn len(&self) -> usize {
        self.row.len()
    }

    pub fn bytes(&self) -> usize {
        let small = self.row.capacity() + self.length.capacity() + self.hash.capacity();
        small * size_of::<u32>() + (self.start.capacity() + self.group.capacity()) * size_of::<u64>()
    }

    /// Adds a member and returns its number.
    pub fn push(&mut self, row: u32, length: u32, hash: u32, group: i64) -> u32 {
        if self.row.len() == self.row.capacity() {
            // An eighth more at a time, not twice as much: memory is what an index is short of.
            let more = (self.len() / 8).max(1 << 10);
            self.row.reserve_exact(more);
            self.start.reserve_exact(self.len() + more - self.start.len());
            self.length.reserve_exact(more);
            self.hash.reserve_exact(more);
            self.group.reserve_exact(more);
        }
        self.row.push(row);
        self.length.push(length);
        self.hash.push(hash);
        self.group.push(group);
        self.len() as u32 - 1
    }

    pub fn truncate(&mut self, members: usize) {
        self.row.truncate(members);
        self.start.truncate(members);
        self.length.truncate(members);
        self.hash.truncate(members);
        self.group.truncate(members);
    }

    /// The tokens of a member that is recorded.
    pub fn tokens<'b>(&self, member: u32, tokens: &'b Tokens, buffer: &'b mut Vec<u32>) -> Result<&'b [u32]> {
        let member = member as usize;
        tokens.read(self.start[member], self.length[member] as usize, buffer)
    }

    /// For each node of a batch, the member with the same tokens in the same group, [`NONE`] where there is none.
    pub fn same_as(
        &self,
        tokens: &Tokens,
        texts: &dyn Texts,
        nodes: &Nodes,
        hashes: &[u32],
        stop: &Stop,
    ) -> Result<Vec<u32>> {
        let candidates = self.candidates(hashes, stop)?;
        let same: Result<Vec<bool>> = candidates
            .par_iter()
            .map_init(<(Vec<u32>, Vec<u32>)>::default, |(left, right), &(member, node)| {
                stop.check()?;
                let row = nodes.first[node as usize] as usize;
                Ok(self.group[member as usize] == nodes.group[node as usize]
                    && self.length[member as usize] as usize == texts.length(row)
                    && texts.read(row, left) == Some(self.tokens(member, tokens, right)?))
            })
            .collect();
        let mut found = vec![NONE; hashes.len()];
        for (&(member, node), _) in candidates.iter().zip(same?).filter(|&(_, same)| same) {
            found[node as usize] = member;
        }
        Ok(found)
    }

    /// Members and nodes with equal hashes.
    fn candidates(&self, hashes: &[u32], stop: &Stop) -> Result<Vec<(u32, u32)>> {
        let first = self.len() as u32;
        let nodes = (first..).zip(hashes.iter().copied());
        let sieve = Sieve::new(hashes.len(), nodes.clone());
        let members = (0..first)
            .zip(self.hash.iter().copied())
            .filter(|&(_, hash)| sieve.lets(hash));
        let shared = buckets::group(
            hashes.len(),
            members.chain(nodes),
            |_| true,
            &mut Scratch::default(),
            stop,
        )?
        .from(first);
        let mut found: Vec<(u32, u32)> = shared.couples;
        for crowd in shared.crowds.iter() {
            let (members, nodes) = crowd.split_at(crowd.partition_point(|&member| member < first));
            found.extend(
                nodes
                    .iter()
                    .flat_map(|&node| members.iter().map(move |&member| (member, node))),
            );
        }
        found.retain(|&(member, _)| member < first);
        Ok(found.into_iter().map(|(member, node)| (member, node - first)).collect())
    }
}

/// The members of an index while a batch is added: those from `first` on have their tokens in the batch.
pub(super) struct Grown<'a> {
    pub members: &'a Members,
    pub tokens: &'a Tokens,
    pub texts: &'a dyn Texts,
    pub first: u32,
    /// The number that the first row of the batch has in the index.
    pub first_row: u32,
    pub ngram: usize,
}

impl Source for Grown<'_> {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn group(&self, member: u32) -> i64 {
        self.members.group[member as usize]
    }

    fn ngram(&self) -> usize {
        self.ngram
    }

    fn tokens<'b>(&'b self, member: u32, buffer: &'b mut Vec<u32>) -> Result<&'b [u32]> {
        if member < self.first {
            return self.members.tokens(member, self.tokens, buffer);
        }
        let row = self.members.row[member as usize] - self.first_row;
        Ok(self.texts.read(row as usize, buffer).unwrap_or(&[]))
    }
}
