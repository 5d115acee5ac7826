//! Exact duplicates: rows of the same group with the same tokens become one node.
//!
//! Grouping goes by a 128-bit hash, and every row is then compared with the node it would join, so that not even a
//! hash collision merges unlike texts. Knows nothing of similarity.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

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
    let mut first_of_row = vec![NONE; texts.rows()];
    let runs: Vec<_> = keyed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).collect();
    let owners: Vec<Vec<u32>> = runs.par_iter().map(|run| owners(texts, run)).collect();
    for (run, owners) in runs.iter().zip(&owners) {
        for (&(_, _, row), &owner) in run.iter().zip(owners) {
            first_of_row[row as usize] = owner;
        }
    }
    stop.check()?;
    Ok(number(first_of_row, group))
}

fn hash_rows(texts: &dyn Texts, group: &(impl Fn(usize) -> i64 + Sync), stop: &Stop) -> Result<Vec<(i64, u128, u32)>> {
    let hashed: Result<Vec<_>> = (0..texts.rows())
        .into_par_iter()
        .map_init(<(Vec<u32>, Vec<u8>)>::default, |(tokens, bytes), row| {
            stop.check()?;
            Ok(texts
                .read(row, tokens)
                .map(|tokens| (group(row), hash(tokens, bytes), row as u32)))
        })
        .collect();
    Ok(hashed?.into_iter().flatten().collect())
}

/// Hash of the tokens as little-endian bytes: the same on every machine.
fn hash(tokens: &[u32], bytes: &mut Vec<u8>) -> u128 {
    bytes.resize(tokens.len() * 4, 0);
    for (place, token) in bytes.chunks_exact_mut(4).zip(tokens) {
        place.copy_from_slice(&token.to_le_bytes());
    }
    xxh3_128(bytes)
}

/// For each row of a run of equal hashes, the first row of the run with the same tokens.
fn owners(texts: &dyn Texts, run: &[(i64, u128, u32)]) -> Vec<u32> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut distinct: Vec<u32> = Vec::new();
    run.iter()
        .map(|&(_, _, row)| {
            let same = |&&owner: &&u32| texts.read(owner as usize, &mut left) == texts.read(row as usize, &mut right);
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
