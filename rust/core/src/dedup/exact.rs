//! Exact duplicates: rows of the same group with the same tokens become one node.
//!
//! Grouping goes by a 64-bit hash, and every row is then compared with the node it would join, so that no hash collision
//! merges unlike texts. Knows nothing of similarity.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Result;
use crate::ragged::Texts;
use crate::run::Stop;

/// Marks rows that belong to no node because they are null.
pub(crate) const NONE: u32 = u32::MAX;

/// Distinct texts, numbered by the first row that has them: a smaller node has a smaller first row.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// The node of each row, [`NONE`] where the row is null.
    pub of_row: Vec<u32>,
    /// The first row of each node, ascending.
    pub first: Vec<u32>,
    /// The group of each node.
    pub group: Vec<i64>,
}

/// Interns all rows; rows of unlike groups (`group(row)`) never share a node.
pub(crate) fn intern(texts: &dyn Texts, group: impl Fn(usize) -> i64 + Sync, stop: &Stop) -> Result<Nodes> {
    let mut keyed = hash_rows(texts, &group, stop)?;
    keyed.par_sort_unstable();
    let mut first_of_row: Vec<u32> = (0..texts.rows() as u32).collect();
    for row in (0..texts.rows()).filter(|&row| texts.is_null(row)) {
        first_of_row[row] = NONE;
    }
    let runs: Vec<_> = keyed.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1).collect();
    let owners: Vec<Vec<u32>> = runs.par_iter().map(|run| owners(texts, &group, run)).collect();
    for (run, owners) in runs.iter().zip(&owners) {
        for (&(_, row), &owner) in run.iter().zip(owners) {
            first_of_row[row as usize] = owner;
        }
    }
    stop.check()?;
    Ok(number(first_of_row, group))
}

/// A hash of group and tokens and the number of each row that is not null.
fn hash_rows(texts: &dyn Texts, group: &(impl Fn(usize) -> i64 + Sync), stop: &Stop) -> Result<Vec<(u64, u32)>> {
    let mut keyed = vec![(0, NONE); texts.rows()];
    keyed
        .par_iter_mut()
        .enumerate()
        .try_for_each_init(Vec::new, |buffer, (row, entry)| {
            if let Some(tokens) = texts.read(row, buffer) {
                *entry = (hash(tokens, group(row)), row as u32);
            }
            stop.check()
        })?;
    keyed.retain(|entry| entry.1 != NONE);
    Ok(keyed)
}

/// Hash of the tokens as they lie in memory: it never leaves this call.
fn hash(tokens: &[u32], group: i64) -> u64 {
    xxh3_64_with_seed(bytemuck::cast_slice(tokens), group as u64)
}

/// For each row of a run of equal hashes, the first row of the run with the same tokens in the same group.
fn owners(texts: &dyn Texts, group: impl Fn(usize) -> i64, run: &[(u64, u32)]) -> Vec<u32> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut distinct: Vec<u32> = Vec::new();
    run.iter()
        .map(|&(_, row)| {
            let same = |&&owner: &&u32| {
                group(owner as usize) == group(row as usize)
                    && texts.read(owner as usize, &mut left) == texts.read(row as usize, &mut right)
            };
            if let Some(&owner) = distinct.iter().find(same) {
                return owner;
            }
            distinct.push(row);
            row
        })
        .collect()
}

fn number(first_of_row: Vec<u32>, group: impl Fn(usize) -> i64) -> Nodes {
    let mut nodes = Nodes {
        of_row: first_of_row,
        first: Vec::new(),
        group: Vec::new(),
    };
    for row in 0..nodes.of_row.len() {
        let owner = nodes.of_row[row];
        if owner == NONE {
            continue;
        }
        if owner as usize == row {
            nodes.of_row[row] = nodes.first.len() as u32;
            nodes.first.push(row as u32);
            nodes.group.push(group(row));
        } else {
            // The owner comes earlier, so its entry already holds its node.
            nodes.of_row[row] = nodes.of_row[owner as usize];
        }
    }
    nodes
}
