//! Deduplication of tokenised texts and of preference pairs.
//!
//! Null rows take part in nothing: they are kept, alone in their cluster. Empty rows are exact duplicates of one
//! another and near-duplicates of nothing.

mod buckets;
mod cluster;
mod comparer;
mod contradictions;
mod corpus;
mod cycles;
mod exact;
pub mod index;
mod lsh;
mod matches;
mod minhash;
mod near;
mod paired;
mod pairs;
pub mod parts;
mod prefix;
mod sketches;
mod table;
mod verify;

pub use paired::{PairOptions, Pairs, Scope};
pub use pairs::{PairResult, dedup_pairs};

use rayon::prelude::*;

use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result};
use cluster::{Preference, cluster};
use exact::{NONE, Nodes};
use near::Search;

/// Bits of a reason: why a row was dropped, or, for the last three, what it was concerned by.
pub mod reason {
    /// The same text (or pair) as a row that is preferred to it.
    pub const EXACT: u8 = 1;
    /// Not the same as any preferred row, but in a cluster with one.
    pub const NEAR: u8 = 2;
    /// Another row has the two sides in the opposite order.
    pub const REVERSED: u8 = 4;
    /// Both sides are the same.
    pub const DEGENERATE: u8 = 8;
    /// Both sides are the same once cut to the maximal length.
    pub const DEGENERATE_TRUNCATED: u8 = 16;
    /// On a cycle of preferences between three or more responses.
    pub const CYCLE: u8 = 32;
}

/// How candidates for near-duplicates are found. Every link is verified in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// MinHash: fast, misses less than one in a thousand pairs at the threshold and fewer above it.
    Lsh,
    /// Prefix filter: misses none.
    Exact,
}

/// What makes a cluster of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// All rows that are connected by a chain of links.
    Component,
    /// All rows directly linked to the row that is kept.
    Star,
}

/// Which row of a cluster stays. The smaller row wins a tie.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// The first row.
    First,
    /// The row with the most tokens (of both sides of a pair together).
    Longest,
    /// The row with the highest score.
    Score(&'a [f64]),
}

/// Options of [`dedup_texts`].
#[derive(Clone, Copy, Debug)]
pub struct TextOptions<'a> {
    /// Tokens in a shingle.
    pub ngram: usize,
    /// Jaccard similarity from which two texts are near-duplicates, in (0, 1].
    pub threshold: f64,
    /// How candidates are found.
    pub mode: Mode,
    /// What makes a cluster.
    pub link: Link,
    /// Which row stays.
    pub keep: Keep<'a>,
    /// Only rows of the same group can be duplicates; `None` is one group.
    pub groups: Option<&'a [i64]>,
}

/// A verified link between two rows (or nodes): `i < j`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// The smaller row.
    pub i: u32,
    /// The larger row.
    pub j: u32,
    /// Similarity of the two, computed on the whole shingle sets.
    pub jaccard: f64,
}

/// What became of each row.
#[derive(Clone, Debug)]
pub struct TextResult {
    /// Whether the row stays.
    pub keep: Vec<bool>,
    /// The smallest row of the row's cluster.
    pub cluster: Vec<i64>,
    /// Bits of [`reason`].
    pub reason: Vec<u8>,
    /// The links that hold the clusters together: rows minus clusters of them, ascending.
    pub edges: Vec<Edge>,
    /// Candidate pairs that were left uncompared because very many texts share a MinHash key; 0 means nothing was skipped.
    pub uncompared: u64,
}

/// Finds exact and near-duplicate texts. Checks each row ([`Texts::check`]) when it first reads it.
///
/// # Errors
/// [`Error::Invalid`] for options out of range, columns of another length and unchecked ids that cannot be used;
/// [`Error::Stopped`].
pub fn dedup_texts(texts: &dyn Texts, options: TextOptions<'_>, stop: &Stop) -> Result<TextResult> {
    let rows = texts.rows();
    check_search(options.ngram, options.threshold)?;
    check_keep(options.keep, rows)?;
    if let Some(groups) = options.groups {
        check_length("groups", groups.len(), rows)?;
    }
    let group = |row: usize| options.groups.map_or(0, |groups| groups[row]);
    let search = Search {
        threshold: options.threshold,
        mode: options.mode,
        forest: options.link == Link::Component,
    };
    let (nodes, (edges, uncompared)) = near::of_texts(texts, group, options.ngram, search, stop)?;
    let columns = [texts];
    let preference = Preference::new(options.keep, &columns);
    Ok(settle(&nodes, edges, &preference, options.link, uncompared))
}

/// Clusters the nodes, keeps the preferred row of each cluster, and says why the others go.
fn settle(nodes: &Nodes, edges: Vec<Edge>, preference: &Preference<'_>, link: Link, uncompared: u64) -> TextResult {
    let mut best = vec![NONE; nodes.first.len()];
    for (row, node) in nodes.rows() {
        best[node] = preference.better(best[node], row);
    }
    let clusters = cluster(link, &best, preference, edges);
    // By the label of a cluster: the row that stays, and the smallest one.
    let (mut kept, mut smallest) = (vec![NONE; best.len()], vec![NONE; best.len()]);
    for (&label, (&best, &first)) in clusters.of_node.iter().zip(best.iter().zip(&nodes.first)) {
        let label = label as usize;
        kept[label] = preference.better(kept[label], best);
        smallest[label] = smallest[label].min(first);
    }
    // Whether a row stays; its cluster and why it goes.
    let fate = |(row, &node): (usize, &u32)| {
        if node == NONE {
            return (true, (row as i64, 0));
        }
        let (row, node) = (row as u32, node as usize);
        let label = clusters.of_node[node] as usize;
        let reason = match (kept[label] == row, best[node] == row) {
            (true, _) => 0,
            (false, true) => reason::NEAR,
            (false, false) => reason::EXACT,
        };
        (kept[label] == row, (i64::from(smallest[label]), reason))
    };
    let (keep, (cluster, reason)) = nodes.of_row.par_iter().enumerate().map(fate).unzip();
    TextResult {
        keep,
        cluster,
        reason,
        edges: in_rows(nodes, &clusters.edges),
        uncompared,
    }
}

/// The links between first rows of nodes, and from each first row to its exact copies.
fn in_rows(nodes: &Nodes, edges: &[Edge]) -> Vec<Edge> {
    let first = |node: u32| nodes.first[node as usize];
    let mut all: Vec<Edge> = edges
        .iter()
        .map(|edge| Edge {
            i: first(edge.i),
            j: first(edge.j),
            jaccard: edge.jaccard,
        })
        .collect();
    for (row, node) in nodes.rows() {
        if nodes.first[node] != row {
            all.push(Edge {
                i: nodes.first[node],
                j: row,
                jaccard: 1.0,
            });
        }
    }
    all.sort_unstable_by_key(|edge| (edge.i, edge.j));
    all
}

fn check_search(ngram: usize, threshold: f64) -> Result<()> {
    if ngram == 0 {
        return Err(Error::Invalid("ngram has to be at least 1".into()));
    }
    if !(threshold > 0.0 && threshold <= 1.0) {
        return Err(Error::Invalid(format!(
            "threshold has to lie in (0, 1], got {threshold}"
        )));
    }
    Ok(())
}

fn check_keep(keep: Keep<'_>, rows: usize) -> Result<()> {
    let Keep::Score(score) = keep else {
        return Ok(());
    };
    check_length("the score column", score.len(), rows)?;
    match score.iter().position(|score| !score.is_finite()) {
        Some(row) => Err(Error::Invalid(format!(
            "the score of row {row} is {}; scores have to be finite",
            score[row]
        ))),
        None => Ok(()),
    }
}

fn check_length(what: &str, found: usize, rows: usize) -> Result<()> {
    if found == rows {
        Ok(())
    } else {
        Err(Error::Invalid(format!("{what} has {found} entries for {rows} rows")))
    }
}
