//! Jaccard similarities of shingle sets: of given pairs, of one text to all others, and of a text to itself.

use rayon::prelude::*;

use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result, shingle};

/// Texts with an index from shingles to the texts that have them.
pub(crate) struct Similarity {
    sets: Vec<Vec<u64>>,
    /// (shingle, text), sorted.
    postings: Vec<(u64, u32)>,
    /// For each text, where the postings of its shingles begin.
    places: Vec<Vec<usize>>,
}

impl Similarity {
    /// Indexes the shingle sets of some texts.
    pub fn new(sets: Vec<Vec<u64>>) -> Self {
        let mut postings: Vec<(u64, u32)> = Vec::with_capacity(sets.iter().map(Vec::len).sum());
        for (text, set) in sets.iter().enumerate() {
            postings.extend(set.iter().map(|&shingle| (shingle, text as u32)));
        }
        postings.sort_unstable();
        let mut places: Vec<Vec<usize>> = sets.iter().map(|set| Vec::with_capacity(set.len())).collect();
        let mut start = 0;
        for run in postings.chunk_by(|a, b| a.0 == b.0) {
            run.iter().for_each(|entry| places[entry.1 as usize].push(start));
            start += run.len();
        }
        Self { sets, postings, places }
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Similarity of two texts.
    pub fn between(&self, a: usize, b: usize) -> f64 {
        shingle::jaccard(&self.sets[a], &self.sets[b])
    }

    /// Similarity of one text to every text, itself included. `shared` is scratch.
    pub fn to_all<'b>(&'b self, text: usize, shared: &'b mut Vec<u32>) -> impl Iterator<Item = f64> + 'b {
        shared.clear();
        shared.resize(self.len(), 0);
        for (&shingle, &place) in self.sets[text].iter().zip(&self.places[text]) {
            for &(_, other) in self.postings[place..].iter().take_while(|entry| entry.0 == shingle) {
                shared[other as usize] += 1;
            }
        }
        let length = self.sets[text].len();
        shared
            .iter()
            .zip(&self.sets)
            .map(move |(&shared, set)| shingle::ratio(shared as usize, length, set.len()))
    }

    /// Mean over all unordered pairs of texts; `None` below two texts.
    pub fn mean(&self, stop: &Stop) -> Result<Option<f64>> {
        let mut shared = Vec::new();
        let mut total = 0.0;
        for text in 1..self.len() {
            stop.check()?;
            total += self.to_all(text, &mut shared).take(text).sum::<f64>();
        }
        let pairs = self.len() * self.len().saturating_sub(1) / 2;
        Ok((pairs > 0).then(|| total / pairs as f64))
    }
}

/// The shingle set of a row, `None` where it is null.
pub(crate) fn set_of(texts: &dyn Texts, row: usize, ngram: usize) -> Option<Vec<u64>> {
    let mut buffer = Vec::new();
    texts.read(row, &mut buffer).map(|tokens| shingle::set(tokens, ngram))
}

/// Jaccard similarity of the shingle sets of rows `a[i]` and `b[i]`; NaN where either is null.
///
/// # Errors
/// [`Error::Invalid`] for columns of unlike length, rows out of range and an ngram of 0; [`Error::Stopped`].
pub fn pair_similarity(texts: &dyn Texts, a: &[i64], b: &[i64], ngram: usize, stop: &Stop) -> Result<Vec<f64>> {
    check_ngram(ngram)?;
    if a.len() != b.len() {
        return Err(Error::Invalid(format!("a has {} entries and b {}", a.len(), b.len())));
    }
    let (a, b) = (check_rows("a", a, texts.rows())?, check_rows("b", b, texts.rows())?);
    (a, b)
        .into_par_iter()
        .map(|(a, b)| {
            stop.check()?;
            let sets = (set_of(texts, a, ngram), set_of(texts, b, ngram));
            Ok(if let (Some(a), Some(b)) = sets {
                shingle::jaccard(&a, &b)
            } else {
                f64::NAN
            })
        })
        .collect()
}

/// Share of a row's n-grams that repeat an earlier n-gram of the row: near 1 in a text that loops.
///
/// 0 for a row of fewer than `ngram` tokens, NaN for a null row.
///
/// # Errors
/// [`Error::Invalid`] for an ngram of 0; [`Error::Stopped`].
pub fn repetition(texts: &dyn Texts, ngram: usize, stop: &Stop) -> Result<Vec<f64>> {
    check_ngram(ngram)?;
    (0..texts.rows())
        .into_par_iter()
        .map_init(<(Vec<u32>, Vec<u64>)>::default, |(buffer, shingles), row| {
            stop.check()?;
            let Some(tokens) = texts.read(row, buffer) else {
                return Ok(f64::NAN);
            };
            let all = shingle::windows(tokens, ngram, shingles).len();
            shingles.truncate(all);
            shingles.sort_unstable();
            shingles.dedup();
            Ok(if all == 0 {
                0.0
            } else {
                1.0 - shingles.len() as f64 / all as f64
            })
        })
        .collect()
}

pub(crate) fn check_ngram(ngram: usize) -> Result<()> {
    if ngram == 0 {
        Err(Error::Invalid("ngram has to be at least 1".into()))
    } else {
        Ok(())
    }
}

pub(crate) fn check_rows(name: &str, rows: &[i64], limit: usize) -> Result<Vec<usize>> {
    let checked = |&row: &i64| {
        usize::try_from(row)
            .ok()
            .filter(|&row| row < limit)
            .ok_or_else(|| Error::Invalid(format!("{name} names row {row}, but there are {limit} rows")))
    };
    rows.iter().map(checked).collect()
}
