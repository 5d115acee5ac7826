//! Jaccard similarities of shingle sets: of given pairs, of one text to all others, and of a text to itself.

use rayon::prelude::*;

use super::number::Numbers;
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result, shingle};

/// Texts with an index from shingles to the texts that have them. Keeps its memory when it is cleared.
///
/// Shingles are known by numbers, and those that only one text has are left out: nothing is shared through them.
#[derive(Default)]
pub(crate) struct Similarity {
    /// Size of each text's shingle set.
    sizes: Vec<usize>,
    numbers: Numbers,
    hashes: Vec<u64>,
    /// The shingles of all texts, without repeats in a text, one text after the other; where each text ends.
    shingles: Vec<u32>,
    ends: Vec<usize>,
    /// For each shingle, the text that had it last, and in how many texts it is.
    last: Vec<(u32, u32)>,
    /// The texts of each shingle, ascending; where each shingle's texts end, those of shingle 0 beginning at 0.
    texts: Vec<u32>,
    text_ends: Vec<usize>,
}

impl Similarity {
    /// Takes all texts out. `tokens` is a guess how many will come.
    pub fn clear(&mut self, tokens: usize) {
        self.numbers.clear(tokens);
        self.sizes.clear();
        self.shingles.clear();
        self.ends.clear();
        self.last.clear();
    }

    /// Adds a text.
    pub fn push(&mut self, tokens: &[u32], ngram: usize) {
        let text = self.sizes.len() as u32;
        let before = self.shingles.len();
        for &hash in shingle::windows(tokens, ngram, &mut self.hashes) {
            let number = self.numbers.number(hash);
            match self.last.get_mut(number as usize) {
                Some(last) if last.0 == text => continue,
                Some(last) => *last = (text, last.1 + 1),
                None => self.last.push((text, 1)),
            }
            self.shingles.push(number);
        }
        self.sizes.push(self.shingles.len() - before);
        self.ends.push(self.shingles.len());
    }

    /// Makes the index, after the last text.
    pub fn finish(&mut self) {
        self.drop_lone();
        let mut end = 0;
        self.text_ends.clear();
        self.text_ends.extend(self.last.iter().map(|&(_, count)| {
            let start = end;
            end += if count > 1 { count as usize } else { 0 };
            start
        }));
        self.texts.clear();
        self.texts.resize(end, 0);
        let mut start = 0;
        for (text, &end) in self.ends.iter().enumerate() {
            for &shingle in &self.shingles[start..end] {
                let place = &mut self.text_ends[shingle as usize];
                self.texts[*place] = text as u32;
                *place += 1;
            }
            start = end;
        }
    }

    /// Takes out shingles that only one text has.
    fn drop_lone(&mut self) {
        let (mut kept, mut start) = (0, 0);
        for end in &mut self.ends {
            for place in start..*end {
                let shingle = self.shingles[place];
                self.shingles[kept] = shingle;
                kept += usize::from(self.last[shingle as usize].1 > 1);
            }
            start = *end;
            *end = kept;
        }
        self.shingles.truncate(kept);
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Similarity of one text to every text, itself included. `shared` is scratch.
    pub fn to_all<'b>(&'b self, text: usize, shared: &'b mut Vec<u32>) -> impl Iterator<Item = f64> + 'b {
        shared.clear();
        shared.resize(self.len(), 0);
        for list in self.lists(text) {
            list.iter().for_each(|&other| shared[other as usize] += 1);
        }
        let size = self.sizes[text];
        shared[text] = size as u32;
        shared
            .iter()
            .zip(&self.sizes)
            .map(move |(&shared, &other)| shingle::ratio(shared as usize, size, other))
    }

    /// Mean over all unordered pairs of texts; `None` below two texts. `shared` is scratch.
    pub fn mean(&self, shared: &mut Vec<u32>, stop: &Stop) -> Result<Option<f64>> {
        let mut total = 0.0;
        for text in 1..self.len() {
            stop.check()?;
            shared.clear();
            shared.resize(text, 0);
            for list in self.lists(text) {
                // Texts before this one only, and the lists ascend.
                list.iter()
                    .take_while(|&&other| (other as usize) < text)
                    .for_each(|&other| shared[other as usize] += 1);
            }
            let pairs = shared.iter().zip(&self.sizes);
            total += pairs
                .map(|(&shared, &other)| shingle::ratio(shared as usize, self.sizes[text], other))
                .sum::<f64>();
        }
        let pairs = self.len() * self.len().saturating_sub(1) / 2;
        Ok((pairs > 0).then(|| total / pairs as f64))
    }

    /// For each shingle of a text that others have too, the texts that have it.
    fn lists(&self, text: usize) -> impl Iterator<Item = &[u32]> {
        let start = text.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.shingles[start..self.ends[text]].iter().map(|&shingle| {
            let end = self.text_ends[shingle as usize];
            &self.texts[end - self.last[shingle as usize].1 as usize..end]
        })
    }
}

/// An index of some rows, of which the null ones count as empty. Rows of the index are numbered as they are given.
pub(crate) fn index_rows(texts: &dyn Texts, rows: &[usize], ngram: usize, stop: &Stop) -> Result<Similarity> {
    let tokens = rows.iter().map(|&row| texts.length(row)).sum();
    check_tokens(tokens)?;
    let mut similarity = Similarity::default();
    similarity.clear(tokens);
    let mut buffer = Vec::new();
    for &row in rows {
        stop.check()?;
        similarity.push(texts.read(row, &mut buffer).unwrap_or_default(), ngram);
    }
    similarity.finish();
    Ok(similarity)
}

/// The shingle set of a row, `None` where it is null.
fn set_of(texts: &dyn Texts, row: usize, ngram: usize) -> Option<Vec<u64>> {
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

/// Shingles are numbered in 32 bits.
pub(crate) fn check_tokens(tokens: usize) -> Result<()> {
    if tokens < u32::MAX as usize {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "{tokens} tokens are too many to be compared at once; there may be {} at most",
            u32::MAX - 1
        )))
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
