//! Near-duplicates: which nodes of one group share enough n-grams. Candidates come from one of two places
//! ([`super::lsh`] or [`super::prefix`]); every link is verified on the whole shingle sets before it counts.

use rayon::prelude::*;

use super::corpus::{Corpus, Links, Source};
use super::sketches::Sketches;
use super::{Edge, Mode, lsh, prefix};
use crate::Result;
use crate::run::Stop;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    pub threshold: f64,
    pub mode: Mode,
    /// Only as many links as it takes to connect what is connected, instead of all of them.
    pub forest: bool,
}

/// All links (or a forest of them) between the members, as edges between nodes in ascending order.
pub(crate) fn links(corpus: &Corpus<'_>, search: Search, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
    let mut found = Links::new(corpus.len(), search.forest);
    match search.mode {
        Mode::Lsh => {
            let mut sketches = Sketches::new(search.threshold, corpus.len());
            sketches.extend(corpus, stop)?;
            lsh::search(corpus, &sketches, 0, search.threshold, &mut found, stop)?;
        }
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
