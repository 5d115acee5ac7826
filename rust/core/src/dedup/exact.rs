//! Exact duplicates: rows of the same group with the same tokens become one node.
//!
//! Grouping goes by a 32-bit hash, and every row is then compared with the node it would join, so that no hash collision
//! merges unlike texts. Knows nothing of similarity.

use rayon::prelude::*;
use twox_hash::XxHash3_64;

use super::buckets::{self, Scratch};
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

impl Nodes {
    /// Each row that is not null, and its node.
    pub fn rows(&self) -> impl Iterator<Item = (u32, usize)> {
        let all = (0..).zip(&self.of_row);
        all.filter(|(_, node)| **node != NONE)
            .map(|(row, &node)| (row, node as usize))
    }
}

/// Interns all rows; rows of unlike groups (`group(row)`) never share a node.
pub(crate) fn intern(texts: &dyn Texts, group: impl Fn(usize) -> i64 + Sync, stop: &Stop) -> Result<Nodes> {
    let keys = keys(texts, &group, stop)?;
    intern_by(&keys, texts, group, stop)
}

/// The same with the keys of all rows at hand.
pub(crate) fn intern_by(
    keys: &[u32],
    texts: &dyn Texts,
    group: impl Fn(usize) -> i64 + Sync,
    stop: &Stop,
) -> Result<Nodes> {
    let rows = texts.rows();
    let shared = buckets::group(
        rows,
        (0..).zip(keys.iter().copied()),
        |_| true,
        &mut Scratch::default(),
        stop,
    )?;
    let same = |a: u32, b: u32, left: &mut Vec<u32>, right: &mut Vec<u32>| {
        let (a, b) = (a as usize, b as usize);
        group(a) == group(b) && texts.read(a, left) == texts.read(b, right)
    };
    let mut first_of_row: Vec<u32> = (0..rows as u32).collect();
    let equal: Vec<bool> = shared
        .couples
        .par_iter()
        .map_init(<(Vec<u32>, Vec<u32>)>::default, |(left, right), &(a, b)| {
            same(a, b, left, right)
        })
        .collect();
    for (&(first, second), _) in shared.couples.iter().zip(&equal).filter(|(_, equal)| **equal) {
        first_of_row[second as usize] = first;
    }
    let owners: Vec<Vec<u32>> = (0..shared.crowds.len())
        .into_par_iter()
        .map(|crowd| owners(shared.crowds.get(crowd), same))
        .collect();
    for (&row, owner) in shared.crowds.iter().flatten().zip(owners.into_iter().flatten()) {
        first_of_row[row as usize] = owner;
    }
    for row in (0..rows).filter(|&row| texts.is_null(row)) {
        first_of_row[row] = NONE;
    }
    stop.check()?;
    Ok(number(first_of_row, group))
}

/// A hash of group and tokens of each row; what a null row gets says nothing.
pub(crate) fn keys(texts: &dyn Texts, group: &(impl Fn(usize) -> i64 + Sync), stop: &Stop) -> Result<Vec<u32>> {
    (0..texts.rows())
        .into_par_iter()
        .map_init(Vec::new, |buffer, row| {
            stop.check()?;
            texts.check(row..row + 1)?;
            Ok(texts
                .read(row, buffer)
                .map_or(row as u32, |tokens| hash(tokens, group(row))))
        })
        .collect()
}

/// Hash of the tokens as they lie in memory: it never leaves this call.
pub(crate) fn hash(tokens: &[u32], group: i64) -> u32 {
    XxHash3_64::oneshot_with_seed(group as u64, bytemuck::cast_slice(tokens)) as u32
}

/// For each of some rows with one hash, the first of them that is the same.
fn owners(rows: &[u32], same: impl Fn(u32, u32, &mut Vec<u32>, &mut Vec<u32>) -> bool) -> Vec<u32> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut distinct: Vec<u32> = Vec::new();
    rows.iter()
        .map(|&row| {
            if let Some(&owner) = distinct.iter().find(|&&owner| same(owner, row, &mut left, &mut right)) {
                return owner;
            }
            distinct.push(row);
            row
        })
        .collect()
}

/// Nodes in the order of their first rows, which `first_of_row` names for each row ([`NONE`] where it is null).
pub(crate) fn number(first_of_row: Vec<u32>, group: impl Fn(usize) -> i64 + Sync) -> Nodes {
    let (mut of_row, mut first) = (first_of_row, Vec::new());
    for row in 0..of_row.len() {
        let owner = of_row[row];
        if owner == NONE {
            continue;
        }
        if owner as usize == row {
            of_row[row] = first.len() as u32;
            first.push(row as u32);
        } else {
            // The owner comes earlier, so its entry already holds its node.
            of_row[row] = of_row[owner as usize];
        }
    }
    let group = first.par_iter().map(|&row| group(row as usize)).collect();
    Nodes { of_row, first, group }
}
