//! Preference pairs: degenerate ones, contradictions, cycles and duplicates, in that order.
//!
//! Each rule sees what the one before it left over, so a row is dropped by one rule only.

use super::cluster::Preference;
use super::contradictions::{cycles, reversals};
use super::matches::Matcher;
use super::paired::{PairOptions, Pairs};
use super::table::Table;
use super::{Edge, Keep, TextResult, check_keep, check_length, check_search, settle};
use crate::Result;
use crate::run::Stop;

/// What became of each pair.
#[derive(Clone, Debug)]
pub struct PairResult {
    /// Keep, cluster, reason and links, as for texts.
    pub rows: TextResult,
    /// Rows whose sides contradict each other: links between the first rows of distinct pairs, ascending.
    pub reversed: Vec<Edge>,
}

/// Finds pairs that teach nothing, contradict one another, or repeat one another.
///
/// A contradiction is never silently kept: with scores, a row survives only if it is stronger than every row that
/// contradicts it, and cycles lose their weakest preferences; without scores all rows concerned are dropped.
///
/// # Errors
/// [`crate::Error::Invalid`] for options out of range and columns of unlike length; [`crate::Error::Stopped`].
pub fn dedup_pairs(pairs: Pairs<'_>, options: PairOptions<'_>, stop: &Stop) -> Result<PairResult> {
    let rows = pairs.prompt.rows();
    check_length("chosen", pairs.chosen.rows(), rows)?;
    check_length("rejected", pairs.rejected.rows(), rows)?;
    check_search(options.ngram, options.threshold)?;
    check_keep(options.keep, rows)?;

    let mut table = Table::new(pairs, options.scope, stop)?;
    let degenerate = table.take_degenerate(options.max_length);
    let (prompts, sides, uncompared) = table.near_links(options, stop)?;
    let distinct = table.distinct();
    let matches = Matcher::new(&distinct.triples, &prompts, &sides).search(stop)?;

    let scores = match options.keep {
        Keep::Score(scores) => Some(scores),
        Keep::First | Keep::Longest => None,
    };
    let mut concerned = vec![0; rows];
    let mut lost = reversals(&distinct, &matches, scores, &mut concerned);
    cycles(&table.triples, scores, &mut concerned, &mut lost);

    let sides = [pairs.chosen, pairs.rejected];
    let preference = Preference::new(options.keep, &sides);
    let (survivors, forward) = distinct.survivors(&lost, &matches.forward);
    let mut result = settle(&survivors, forward, &preference, options.link, uncompared);
    for row in 0..rows {
        result.reason[row] |= degenerate[row] | concerned[row];
        result.keep[row] &= degenerate[row] == 0 && !lost[row];
    }
    let first = |pair: u32| distinct.nodes.first[pair as usize];
    let reversed = matches
        .reversed
        .iter()
        .map(|edge| Edge {
            i: first(edge.i),
            j: first(edge.j),
            ..*edge
        })
        .collect();
    Ok(PairResult { rows: result, reversed })
}
