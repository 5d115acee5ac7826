//! Deduplication in parts, for more texts than one machine holds: hash, sketch, couple, verify, settle.
//!
//! Each part sees only what it is given (rows of a block, keys of a partition, two sides of some couples) and keeps
//! nothing, so that parts can run anywhere, in any order, and twice. Put together by the caller they find the clusters
//! of [`super::dedup_texts`] in [`super::Mode::Lsh`]. Knows nothing of machines, files or how the parts are brought
//! together.

use rayon::prelude::*;
use twox_hash::XxHash3_64;

use super::cluster::Preference;
use super::comparer::Comparer;
use super::exact::{NONE, number};
use super::lsh::{LEADERS, WINDOW};
use super::minhash::{self, Sketcher};
use super::{Edge, Keep, Link, TextResult, buckets, check_keep, check_length, check_search, settle};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::shingle;
use crate::{Error, Result};

/// Which members of a bucket are coupled with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Each with the one before it: enough to connect copies.
    Neighbours,
    /// Each with all that the rule for crowds lets it meet, except the one before it.
    Others,
    /// Each with all that the rule for crowds lets it meet.
    All,
}

/// What [`couple`] finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Positions of two members that share a key, the smaller one first; each couple once.
    pub couples: Vec<(u32, u32)>,
    /// Couples beyond the rule for crowds; 0 for [`Reach::Neighbours`], which leaves most to a later look.
    pub uncompared: u64,
}

/// Some rows of two blocks, side by side: `couples` holds a row of `left` and a row of `right`.
#[derive(Clone, Copy)]
pub struct Sides<'a> {
    /// The block of the smaller rows.
    pub left: &'a dyn Texts,
    /// The block of the larger rows.
    pub right: &'a dyn Texts,
    /// Which rows to compare; quickest where a left row stays the same for a while.
    pub couples: &'a [(usize, usize)],
}

/// Number of keys of a text at a threshold: 16 at 0.8.
///
/// # Errors
/// [`Error::Invalid`] for a threshold outside (0, 1].
pub fn bands(threshold: f64) -> Result<usize> {
    check_search(1, threshold)?;
    Ok(Sketcher::new(threshold).bands())
}

/// A 64-bit hash of the tokens of each row, 0 where it is null. Equal rows have equal hashes on every machine of the
/// same byte order; unlike rows can too, which [`same`] finds out.
///
/// # Errors
/// [`Error::Stopped`].
pub fn hashes(texts: &dyn Texts, stop: &Stop) -> Result<Vec<u64>> {
    let of_row = |buffer: &mut Vec<u32>, row| {
        stop.check()?;
        let tokens = texts.read(row, buffer);
        Ok(tokens.map_or(0, |tokens| XxHash3_64::oneshot(bytemuck::cast_slice(tokens))))
    };
    (0..texts.rows()).into_par_iter().map_init(Vec::new, of_row).collect()
}

/// The keys of each row as [bands, rows]. Rows of unlike groups get unlike keys, but for collisions.
///
/// # Errors
/// [`Error::Invalid`] for options out of range and groups of another length; [`Error::Stopped`].
pub fn sketch(
    texts: &dyn Texts,
    groups: Option<&[i64]>,
    ngram: usize,
    threshold: f64,
    stop: &Stop,
) -> Result<Vec<u32>> {
    check_search(ngram, threshold)?;
    if let Some(groups) = groups {
        check_length("groups", groups.len(), texts.rows())?;
    }
    let (sketcher, rows) = (Sketcher::new(threshold), texts.rows());
    let bands = sketcher.bands();
    let mut by_row = vec![0; rows * bands];
    by_row.par_chunks_exact_mut(bands).enumerate().try_for_each_init(
        || (Vec::new(), minhash::Scratch::default()),
        |(buffer, scratch), (row, keys)| {
            stop.check()?;
            let salt = shingle::mix(groups.map_or(0, |groups| groups[row]) as u64);
            let tokens = texts.read(row, buffer).unwrap_or(&[]);
            sketcher.keys(tokens, ngram, salt, scratch, keys);
            Ok::<_, Error>(())
        },
    )?;
    let in_band = |band: usize| by_row.iter().skip(band).step_by(bands).copied();
    Ok((0..bands).flat_map(in_band).collect())
}

/// The couples of members that share a key. Members are the positions in `keys`, and have to lie in the order of their
/// rows, on which the rule for crowds depends: a member meets the last 256 and the first 16 of its bucket.
///
/// `prefix` is the number of first bits that all keys have in common. Members of one label are connected already, and
/// are not coupled.
///
/// # Errors
/// [`Error::Invalid`] for labels of another length, too many members and a prefix beyond 31; [`Error::Stopped`].
pub fn couple(keys: &[u32], prefix: u32, labels: Option<&[i64]>, reach: Reach, stop: &Stop) -> Result<Candidates> {
    if let Some(labels) = labels {
        check_length("labels", labels.len(), keys.len())?;
    }
    if prefix > 31 || u32::try_from(keys.len()).is_err() {
        return Err(Error::Invalid(
            "a partition holds up to 2**32 - 1 keys of 32 bits".into(),
        ));
    }
    // Buckets are found by the first bits, so those that say nothing go to the end.
    let turned = (0..).zip(keys.iter().map(|key| key.rotate_left(prefix)));
    let shared = buckets::group(keys.len(), turned, |_| true, &mut buckets::Scratch::default(), stop)?;
    let apart = |a: u32, b: u32| labels.is_none_or(|labels| labels[a as usize] != labels[b as usize]);
    let mut found = Candidates::default();
    if reach != Reach::Others {
        let couples = shared.couples.into_iter();
        found.couples.extend(couples.filter(|&(a, b)| apart(a, b)));
    }
    for crowd in shared.crowds.iter() {
        stop.check()?;
        found.add(crowd, reach, apart);
    }
    Ok(found)
}

impl Candidates {
    fn add(&mut self, crowd: &[u32], reach: Reach, apart: impl Fn(u32, u32) -> bool) {
        for (place, &member) in crowd.iter().enumerate().skip(1) {
            let nearest = place.saturating_sub(WINDOW);
            let leaders = LEADERS.min(nearest);
            let (leading, window) = match reach {
                Reach::Neighbours => (0, place - 1..place),
                Reach::Others => (leaders, nearest..place - 1),
                Reach::All => (leaders, nearest..place),
            };
            let met = crowd[..leading].iter().chain(&crowd[window]);
            let wanted = met.filter(|&&earlier| apart(earlier, member));
            self.couples.extend(wanted.map(|&earlier| (earlier, member)));
            if reach != Reach::Neighbours {
                self.uncompared += (nearest - leaders) as u64;
            }
        }
    }
}

/// Whether the tokens of each couple are the same. Null rows are the same as nothing.
///
/// # Errors
/// [`Error::Invalid`] for a row that is not there; [`Error::Stopped`].
pub fn same(sides: Sides<'_>, stop: &Stop) -> Result<Vec<bool>> {
    sides.check()?;
    let equal = |(left, right): &mut (Vec<u32>, Vec<u32>), &(a, b): &(usize, usize)| {
        stop.check()?;
        let tokens = sides.left.read(a, left);
        Ok(tokens.is_some() && tokens == sides.right.read(b, right))
    };
    sides.couples.par_iter().map_init(Default::default, equal).collect()
}

/// The couples that reach the threshold: their positions, ascending, and their Jaccard similarity on the whole shingle
/// sets. Empty and null rows are near nothing.
///
/// # Errors
/// [`Error::Invalid`] for options out of range and a row that is not there; [`Error::Stopped`].
pub fn verify(sides: Sides<'_>, ngram: usize, threshold: f64, stop: &Stop) -> Result<Vec<(usize, f64)>> {
    check_search(ngram, threshold)?;
    sides.check()?;
    let places = 0..sides.couples.len();
    let found: Result<Vec<Option<(usize, f64)>>> = places
        .into_par_iter()
        .with_min_len(64)
        .map_init(Taken::default, |taken, place| {
            stop.check()?;
            let similarity = taken.jaccard_from(sides, sides.couples[place], ngram, threshold);
            Ok(similarity.map(|similarity| (place, similarity)))
        })
        .collect();
    Ok(found?.into_iter().flatten().collect())
}

impl Sides<'_> {
    fn check(&self) -> Result<()> {
        let (left, right) = (self.left.rows(), self.right.rows());
        match self.couples.iter().find(|&&(a, b)| a >= left || b >= right) {
            Some((a, b)) => Err(Error::Invalid(format!(
                "no rows {a} and {b} in blocks of {left} and {right} rows"
            ))),
            None => Ok(()),
        }
    }
}

/// The left row that a thread compares with one right row after the other.
#[derive(Default)]
struct Taken {
    row: Option<usize>,
    comparer: Comparer,
    tokens: Vec<u32>,
    shingles: Vec<u64>,
}

impl Taken {
    fn jaccard_from(&mut self, sides: Sides<'_>, couple: (usize, usize), ngram: usize, threshold: f64) -> Option<f64> {
        let (a, b) = couple;
        if sides.left.length(a) == 0 || sides.right.length(b) == 0 {
            return None;
        }
        if self.row != Some(a) {
            let tokens = sides.left.read(a, &mut self.tokens)?;
            self.comparer.take(shingle::windows(tokens, ngram, &mut self.shingles));
            self.row = Some(a);
        }
        let tokens = sides.right.read(b, &mut self.tokens)?;
        let other = shingle::windows(tokens, ngram, &mut self.shingles);
        self.comparer.jaccard_from(other, threshold)
    }
}

/// What becomes of each row, from what the other parts found: the end of [`super::dedup_texts`].
///
/// `owners`: the first row with the same tokens in the same group, itself where there is none before it, -1 for a null
/// row. `edges`: links between such first rows, in any order. With `scores` the row of the highest one stays, without
/// them the first. The edges of the result are links that connect each cluster.
///
/// # Errors
/// [`Error::Invalid`] for owners or edges that contradict one another, and scores of another length or not finite.
pub fn settle_parts(
    owners: &[i64],
    edges: &[Edge],
    scores: Option<&[f64]>,
    link: Link,
    uncompared: u64,
) -> Result<TextResult> {
    let keep = scores.map_or(Keep::First, Keep::Score);
    check_keep(keep, owners.len())?;
    let nodes = number(checked(owners)?, |_| 0);
    let node = |row: u32| match nodes.of_row.get(row as usize) {
        Some(&node) if node != NONE && nodes.first[node as usize] == row => Ok(node),
        _ => Err(Error::Invalid(format!("a link to row {row}, which is no first row"))),
    };
    let in_nodes = |edge: &Edge| {
        let (i, j) = (node(edge.i)?, node(edge.j)?);
        let apart = i < j;
        apart
            .then_some(Edge { i, j, ..*edge })
            .ok_or_else(|| Error::Invalid(format!("a link from row {} to row {}", edge.i, edge.j)))
    };
    let mut edges: Vec<Edge> = edges.iter().map(in_nodes).collect::<Result<_>>()?;
    edges.sort_unstable_by_key(|edge| (edge.i, edge.j));
    edges.dedup_by_key(|edge| (edge.i, edge.j));
    Ok(settle(&nodes, edges, &Preference::new(keep, &[]), link, uncompared))
}

/// Owners as [`number`] takes them.
fn checked(owners: &[i64]) -> Result<Vec<u32>> {
    let owner = |(row, &owner): (usize, &i64)| match usize::try_from(owner) {
        Err(_) if owner == -1 => Ok(NONE),
        Ok(place) if place <= row && owners[place] == owner && row < NONE as usize => Ok(place as u32),
        _ => Err(Error::Invalid(format!("row {row} cannot be a copy of row {owner}"))),
    };
    owners.iter().enumerate().map(owner).collect()
}
