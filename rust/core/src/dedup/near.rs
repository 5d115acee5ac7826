//! Near-duplicates: which nodes of one group share enough n-grams. Candidates come from one of two places
//! ([`super::lsh`] or [`super::prefix`]); every link is verified on the whole shingle sets before it counts.

use rayon::prelude::*;

use super::corpus::{Corpus, Links, Source};
use super::exact::{Nodes, intern, intern_by};
use super::sketches::Sketches;
use super::{Edge, Mode, lsh, prefix};
use crate::Result;
use crate::ragged::Texts;
use crate::run::Stop;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    pub threshold: f64,
    pub mode: Mode,
    /// Only as many links as it takes to connect what is connected, instead of all of them.
    pub forest: bool,
}

/// The nodes of some texts and the links between them, as [`links`] finds them.
pub(crate) fn of_texts(
    texts: &dyn Texts,
    group: impl Fn(usize) -> i64 + Sync,
    ngram: usize,
    search: Search,
    stop: &Stop,
) -> Result<(Nodes, (Vec<Edge>, u64))> {
    match search.mode {
        Mode::Lsh => {
            let (mut sketches, keys) = Sketches::of_rows(texts, &group, ngram, search.threshold, stop)?;
            let nodes = intern_by(&keys, texts, group, stop)?;
            drop(keys);
            let corpus = Corpus::of_rows(texts, &nodes, ngram);
            sketches.leave_out(&corpus.absent());
            let found = sketched(&corpus, &sketches, search, stop)?;
            Ok((nodes, found))
        }
        Mode::Exact => {
            let nodes = intern(texts, group, stop)?;
            let found = links(&Corpus::new(texts, &nodes, ngram, |_| true), search, stop)?;
            Ok((nodes, found))
        }
    }
}

/// All links (or a forest of them) between the members, as edges between nodes in ascending order.
pub(crate) fn links(corpus: &Corpus<'_>, search: Search, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
    match search.mode {
        Mode::Lsh => {
            let mut sketches = Sketches::new(search.threshold, corpus.len());
            sketches.extend(corpus, stop)?;
            sketched(corpus, &sketches, search, stop)
        }
        Mode::Exact => {
            let mut found = Links::new(corpus.len(), search.forest);
            prefix::search(corpus, search.threshold, &mut found, stop)?;
            Ok(between_nodes(corpus, found))
        }
    }
}

/// The same by sketches that are there.
fn sketched(corpus: &Corpus<'_>, sketches: &Sketches, search: Search, stop: &Stop) -> Result<(Vec<Edge>, u64)> {
    let mut found = Links::new(corpus.len(), search.forest);
    lsh::search(corpus, sketches, 0, search.threshold, &mut found, stop)?;
    Ok(between_nodes(corpus, found))
}

fn between_nodes(corpus: &Corpus<'_>, found: Links) -> (Vec<Edge>, u64) {
    let mut edges = found.edges;
    // Members ascend with their nodes, so i < j carries over.
    edges
        .par_iter_mut()
        .for_each(|edge| (edge.i, edge.j) = (corpus.node(edge.i), corpus.node(edge.j)));
    edges.par_sort_unstable_by_key(|edge| (edge.i, edge.j));
    edges.dedup_by_key(|edge| (edge.i, edge.j)); // found as a couple and in a crowd
    (edges, found.uncompared)
}
