//! Preference pairs: degenerate ones, contradictions, cycles and duplicates, in that order.
//!
//! Each rule sees what the one before it left over, so a row is dropped by one rule only.

use super::cluster::Preference;
use super::contradictions::{cycles, reversals};
use super::matches::Matcher;
use super::table::Table;
use super::{Edge, Keep, Link, Mode, TextResult, check_keep, check_length, check_search, settle};
use crate::Result;
use crate::ragged::Texts;
use crate::run::Stop;

/// Which prompts may be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only pairs of exactly the same prompt are compared.
    Prompt,
    /// Pairs of all prompts are compared, and their prompts have to be the same or near-duplicates too.
    Global,
}

/// Options of [`dedup_pairs`]; the fields shared with texts mean the same there.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct PairOptions<'a> {
    /// Which prompts may be the same.
    pub scope: Scope,
    /// Length in tokens, prompt included, to which training will cut pairs from the end.
    pub max_length: Option<usize>,
    pub ngram: usize,
    pub threshold: f64,
    pub mode: Mode,
    pub link: Link,
    pub keep: Keep<'a>,
}

/// The three columns of a table of pairs.
#[derive(Clone, Copy)]
pub struct Pairs<'a> {
    /// Tokens of the prompts.
    pub prompt: &'a dyn Texts,
    /// Tokens of the chosen completions.
    pub chosen: &'a dyn Texts,
    /// Tokens of the rejected completions.
    pub rejected: &'a dyn Texts,
}

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
