//! How new texts are against a history of others: 1 less the Jaccard similarity to the most similar text of the history.
//!
//! Exact, through an index of the history. A text's shingles are looked up from the rarest on. A row of the history that
//! has none of those looked up so far has at most the others, and where that is too few to matter no new row is taken up:
//! the long lists of common shingles are seldom walked.

use rayon::prelude::*;

use super::number::Numbers;
use super::similarity::{check_ngram, check_tokens};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Result, shingle};

/// Rows that a thread takes at a time, at least: each start needs a counter for every row of the history.
const BLOCK: usize = 64;

/// Novelty of each row, from 0 (a row of the history has the same shingles) to 1 (none has one in common). NaN where
/// the row is null.
///
/// Null rows of the history count for nothing; against a history without rows everything is new. An empty row is new
/// unless the history has one too.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for an ngram of 0; [`Error::Stopped`](crate::Error::Stopped).
pub fn novelty(texts: &dyn Texts, history: &dyn Texts, ngram: usize, stop: &Stop) -> Result<Vec<f64>> {
    check_ngram(ngram)?;
    let index = Index::new(texts, history, ngram, stop)?;
    let has_empty = (0..history.rows()).any(|row| history.length(row) == 0 && !history.is_null(row));
    (0..texts.rows())
        .into_par_iter()
        .with_min_len(BLOCK)
        .map_init(
            || (Search::new(history.rows()), Reader::default()),
            |(search, reader), row| {
                stop.check()?;
                Ok(match reader.read(texts, row, ngram, &index.numbers) {
                    None => f64::NAN,
                    Some(0) => f64::from(u8::from(!has_empty)),
                    Some(size) => 1.0 - search.most_similar(&index, &mut reader.found, size),
                })
            },
        )
        .collect()
}

/// Reads rows as numbers of shingles.
#[derive(Default)]
struct Reader {
    buffer: Vec<u32>,
    hashes: Vec<u64>,
    own: Numbers,
    /// The shingles of the last row that have a number, without repeats.
    found: Vec<u32>,
}

impl Reader {
    /// The size of a row's set of shingles, `None` where it is null; fills `found`.
    fn read(&mut self, texts: &dyn Texts, row: usize, ngram: usize, numbers: &Numbers) -> Option<usize> {
        self.found.clear();
        let tokens = texts.read(row, &mut self.buffer)?;
        self.own.clear(tokens.len());
        for &hash in shingle::windows(tokens, ngram, &mut self.hashes) {
            let before = self.own.len();
            if self.own.number(hash) as usize == before {
                self.found.extend(numbers.get(hash));
            }
        }
        Some(self.own.len())
    }
}

/// The history by its shingles, as far as the texts that are looked up may have them.
struct Index {
    /// Numbers for the shingles of the smaller side; what the other side has beyond them is in common with nothing.
    numbers: Numbers,
    /// Size of the whole shingle set of each row of the history.
    sizes: Vec<u32>,
    /// The numbered shingles of all rows, ascending within a row, and where each row ends.
    shingles: Vec<u32>,
    ends: Vec<usize>,
    /// The rows of each shingle, and where each shingle's begin; one more entry than shingles.
    rows: Vec<u32>,
    starts: Vec<usize>,
}

impl Index {
    fn new(texts: &dyn Texts, history: &dyn Texts, ngram: usize, stop: &Stop) -> Result<Self> {
        let tokens = |side: &dyn Texts| (0..side.rows()).map(|row| side.length(row)).sum::<usize>();
        let smaller = if tokens(texts) < tokens(history) {
            texts
        } else {
            history
        };
        check_tokens(tokens(smaller))?;
        let numbers = number(smaller, ngram, stop)?;
        let read: Result<Vec<(u32, Vec<u32>)>> = (0..history.rows())
            .into_par_iter()
            .with_min_len(BLOCK)
            .map_init(Reader::default, |reader, row| {
                stop.check()?;
                let size = reader.read(history, row, ngram, &numbers).unwrap_or(0);
                reader.found.sort_unstable();
                Ok((size as u32, reader.found.clone()))
            })
            .collect();
        let mut index = Self {
            starts: vec![0; numbers.len() + 1],
            numbers,
            sizes: Vec::with_capacity(history.rows()),
            shingles: Vec::new(),
            ends: Vec::with_capacity(history.rows()),
            rows: Vec::new(),
        };
        for (size, found) in read? {
            index.sizes.push(size);
            index.shingles.extend(found);
            index.ends.push(index.shingles.len());
        }
        index.turn(stop)?;
        Ok(index)
    }

    /// From the shingles of each row to the rows of each shingle.
    fn turn(&mut self, stop: &Stop) -> Result<()> {
        for &shingle in &self.shingles {
            self.starts[shingle as usize + 1] += 1;
        }
        for place in 1..self.starts.len() {
            self.starts[place] += self.starts[place - 1];
        }
        let mut next = self.starts.clone();
        let mut rows = vec![0; self.shingles.len()];
        for row in 0..self.sizes.len() {
            stop.check()?;
            for &shingle in self.shingles_of(row) {
                let place = &mut next[shingle as usize];
                rows[*place] = row as u32;
                *place += 1;
            }
        }
        self.rows = rows;
        Ok(())
    }

    fn shingles_of(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.shingles[start..self.ends[row]]
    }

    fn rows_of(&self, shingle: u32) -> &[u32] {
        let shingle = shingle as usize;
        &self.rows[self.starts[shingle]..self.starts[shingle + 1]]
    }
}

fn number(texts: &dyn Texts, ngram: usize, stop: &Stop) -> Result<Numbers> {
    let (mut numbers, mut buffer, mut hashes) = (Numbers::default(), Vec::new(), Vec::new());
    numbers.clear(usize::MAX);
    for row in 0..texts.rows() {
        stop.check()?;
        if let Some(tokens) = texts.read(row, &mut buffer) {
            for &hash in shingle::windows(tokens, ngram, &mut hashes) {
                numbers.number(hash);
            }
        }
    }
    Ok(numbers)
}

/// Looks texts up, one after the other.
struct Search {
    /// For each row of the history, how many of the shingles looked up so far it has.
    shared: Vec<u32>,
    /// The rows for which that is not 0.
    met: Vec<u32>,
}

impl Search {
    fn new(rows: usize) -> Self {
        Self {
            shared: vec![0; rows],
            met: Vec::new(),
        }
    }

    /// Similarity to the most similar row, for a text with `size` shingles, of which the index knows those in `known`.
    fn most_similar(&mut self, index: &Index, known: &mut [u32], size: usize) -> f64 {
        known.sort_unstable_by_key(|&shingle| (index.rows_of(shingle).len(), shingle));
        let (mut best, mut looked_up) = (0.0f64, 0);
        // A row that has not been met shares no more than the shingles that are left.
        while looked_up < known.len() && (known.len() - looked_up) as f64 / size as f64 > best {
            best = self.meet(index, known[looked_up], size, best);
            looked_up += 1;
        }
        best = self.compare(index, &known[looked_up..], size, best);
        self.met.drain(..).for_each(|row| self.shared[row as usize] = 0);
        best
    }

    /// Counts the rows that have a shingle; the best similarity that is certain by now.
    fn meet(&mut self, index: &Index, shingle: u32, size: usize, mut best: f64) -> f64 {
        for &row in index.rows_of(shingle) {
            let shared = &mut self.shared[row as usize];
            if *shared == 0 {
                self.met.push(row);
            }
            *shared += 1;
            best = best.max(shingle::ratio(
                *shared as usize,
                size,
                index.sizes[row as usize] as usize,
            ));
        }
        best
    }

    /// Compares the rows that have been met by the shingles that are left, as far as these could change anything.
    fn compare(&self, index: &Index, left: &[u32], size: usize, mut best: f64) -> f64 {
        if left.is_empty() {
            return best;
        }
        for &row in &self.met {
            let (own, so_far) = (index.sizes[row as usize] as usize, self.shared[row as usize] as usize);
            let most = (so_far + left.len()).min(own).min(size);
            if shingle::ratio(most, size, own) > best {
                let has = index.shingles_of(row as usize);
                let more = left.iter().filter(|shingle| has.binary_search(shingle).is_ok()).count();
                best = best.max(shingle::ratio(so_far + more, size, own));
            }
        }
        best
    }
}
