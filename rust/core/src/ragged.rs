//! A batch of token lists as values and offsets: borrowed, never copied, checked once when it is made.
//!
//! Ids come as u32, i32 or i64 and offsets as 32 or 64 bits, as Arrow, NumPy and tokenizers hand them out.
//! Everything after this file sees one row at a time as `&[u32]`.

use std::ops::Range;

use rayon::prelude::*;

use crate::{Error, Result};

/// Ids that are checked in one go.
const PIECE: usize = 1 << 20;
/// Rows that are checked on the calling thread, with no other one.
const FEW: usize = 1 << 10;

/// The token ids of all rows, one after the other.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    /// Ids that need no conversion.
    U32(&'a [u32]),
    /// Ids as PyTorch and many datasets store them.
    I32(&'a [i32]),
    /// Ids as NumPy and `datasets` store them by default.
    I64(&'a [i64]),
}

/// Where each row begins and ends in the ids: one more entry than rows, not necessarily starting at 0.
#[derive(Clone, Copy, Debug)]
pub enum Offsets<'a> {
    /// Offsets of an Arrow List.
    I32(&'a [i32]),
    /// Offsets of an Arrow LargeList.
    I64(&'a [i64]),
}

/// Rows of token ids that can be read one at a time, by several threads at once.
pub trait Texts: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// The tokens of a row, or `None` where the row is null. `buffer` holds them when they had to be widened.
    fn read<'b>(&'b self, row: usize, buffer: &'b mut Vec<u32>) -> Option<&'b [u32]>;

    /// Number of tokens of a row; 0 where the row is null.
    fn length(&self, row: usize) -> usize;

    /// Whether the row is null, which is not the same as empty.
    fn is_null(&self, row: usize) -> bool;

    /// Checks the ids of some rows where that was left for later; has to come before they are read.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the first bad row of all, whichever rows were asked for.
    fn check(&self, _rows: Range<usize>) -> Result<()> {
        Ok(())
    }
}

/// A borrowed batch of token lists.
///
/// Invariant: the offsets never decrease and stay inside the ids, and every id of a row that is not null and was checked
/// fits a u32.
#[derive(Clone, Debug)]
pub struct Ragged<'a> {
    ids: Ids<'a>,
    /// The ids as they came, until they are checked.
    unchecked: Option<Ids<'a>>,
    offsets: Offsets<'a>,
    nulls: Option<Vec<bool>>,
}

impl<'a> Ragged<'a> {
    /// Checks the parts and keeps references to them. `nulls[row]` is true where the row is null.
    ///
    /// # Errors
    /// [`Error::Invalid`] for offsets that decrease or leave the ids, a mask of another length, and ids that are
    /// negative or above `u32::MAX`. What lies beneath a null row is not looked at.
    pub fn new(ids: Ids<'a>, offsets: Offsets<'a>, nulls: Option<Vec<bool>>) -> Result<Self> {
        Self::unchecked(ids, offsets, nulls)?.checked()
    }

    /// The same, but for the ids: each row is left to [`Texts::check`], for whoever goes through all rows once anyway.
    ///
    /// # Errors
    /// [`Error::Invalid`] for offsets that decrease or leave the ids, and a mask of another length.
    pub fn unchecked(ids: Ids<'a>, offsets: Offsets<'a>, nulls: Option<Vec<bool>>) -> Result<Self> {
        let unsigned = match ids {
            // No id that will be read is negative, so the same bits say the same as u32.
            Ids::I32(ids) => Ids::U32(bytemuck::cast_slice(ids)),
            Ids::U32(_) | Ids::I64(_) => ids,
        };
        let batch = Self {
            ids: unsigned,
            unchecked: Some(ids),
            offsets,
            nulls,
        };
        batch.check_offsets()?;
        batch.check_nulls()?;
        Ok(batch)
    }

    /// Checks the ids of all rows at once, so that [`Texts::check`] has nothing left to do.
    ///
    /// # Errors
    /// [`Error::Invalid`] for ids that are negative or above `u32::MAX`.
    pub fn checked(mut self) -> Result<Self> {
        if let Some(ids) = self.unchecked.take() {
            self.check_ids(ids)?;
        }
        Ok(self)
    }

    fn check_offsets(&self) -> Result<()> {
        let (rising, ends) = match self.offsets {
            Offsets::I32(o) => (
                o.is_sorted(),
                o.first().zip(o.last()).map(|(&a, &b)| (i64::from(a), i64::from(b))),
            ),
            Offsets::I64(o) => (o.is_sorted(), o.first().zip(o.last()).map(|(&a, &b)| (a, b))),
        };
        let Some((first, last)) = ends else {
            return Err(invalid("offsets are empty: a batch of N rows has N + 1 offsets"));
        };
        if !rising || first < 0 {
            return Err(invalid("offsets have to start at 0 or above and never decrease"));
        }
        if usize::try_from(last).map_or(true, |last| last > self.ids.len()) {
            return Err(Error::Invalid(format!(
                "the last offset is {last}, but there are {} token ids",
                self.ids.len()
            )));
        }
        // Rows are numbered in 32 bits everywhere; two sides of a pair share one numbering, hence half.
        if self.rows() >= (u32::MAX / 2) as usize {
            return Err(invalid("too many rows: a batch holds at most 2,147,483,646"));
        }
        Ok(())
    }

    fn check_nulls(&self) -> Result<()> {
        match &self.nulls {
            Some(mask) if mask.len() != self.rows() => Err(Error::Invalid(format!(
                "the null mask has {} entries for {} rows",
                mask.len(),
                self.rows()
            ))),
            _ => Ok(()),
        }
    }

    fn check_ids(&self, ids: Ids<'_>) -> Result<()> {
        let fits = if self.nulls.is_none() {
            let (start, _) = self.bounds(0);
            let end = self.offsets.at(self.rows());
            if end.saturating_sub(start) <= PIECE {
                ids.fit(start, end)
            } else {
                let pieces = (start..end).into_par_iter().step_by(PIECE);
                pieces.all(|piece| ids.fit(piece, end.min(piece + PIECE)))
            }
        } else if self.rows() <= FEW {
            self.rows_fit(ids, 0..self.rows())
        } else {
            (0..self.rows()).into_par_iter().all(|row| self.row_fits(ids, row))
        };
        if fits { Ok(()) } else { Err(self.first_bad_row(ids)) }
    }

    fn rows_fit(&self, ids: Ids<'_>, mut rows: Range<usize>) -> bool {
        match self.nulls {
            None => ids.fit(self.offsets.at(rows.start), self.offsets.at(rows.end)),
            Some(_) => rows.all(|row| self.row_fits(ids, row)),
        }
    }

    fn row_fits(&self, ids: Ids<'_>, row: usize) -> bool {
        let (start, end) = self.bounds(row);
        self.is_null(row) || ids.fit(start, end)
    }

    /// Names the offending id; only called once a check has failed, so its speed does not matter.
    fn first_bad_row(&self, ids: Ids<'_>) -> Error {
        for row in (0..self.rows()).filter(|&row| !self.is_null(row)) {
            let (start, end) = self.bounds(row);
            if let Some(id) = (start..end).map(|i| ids.at(i)).find(|&id| u32::try_from(id).is_err()) {
                return Error::Invalid(format!(
                    "row {row} holds token id {id}; ids have to lie in 0..=4294967295"
                ));
            }
        }
        Error::Internal("an id check failed without a bad id".into())
    }

    /// Start and end of a row in the ids. Row 0 of an empty batch is the empty range.
    fn bounds(&self, row: usize) -> (usize, usize) {
        let start = self.offsets.at(row);
        (
            start,
            if row < self.rows() {
                self.offsets.at(row + 1)
            } else {
                start
            },
        )
    }
}

impl Texts for Ragged<'_> {
    fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn read<'b>(&'b self, row: usize, buffer: &'b mut Vec<u32>) -> Option<&'b [u32]> {
        if self.is_null(row) {
            return None;
        }
        let (start, end) = self.bounds(row);
        match self.ids {
            Ids::U32(ids) => return Some(&ids[start..end]),
            // Every id was checked to be a u32, so the casts lose nothing.
            Ids::I32(ids) => fill(buffer, ids[start..end].iter().map(|&id| id as u32)),
            Ids::I64(ids) => fill(buffer, ids[start..end].iter().map(|&id| id as u32)),
        }
        Some(buffer)
    }

    fn length(&self, row: usize) -> usize {
        let (start, end) = self.bounds(row);
        if self.is_null(row) { 0 } else { end - start }
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|mask| mask[row])
    }

    fn check(&self, rows: Range<usize>) -> Result<()> {
        match self.unchecked {
            Some(ids) if !self.rows_fit(ids, rows) => Err(self.first_bad_row(ids)),
            _ => Ok(()),
        }
    }
}

impl Ids<'_> {
    fn len(&self) -> usize {
        match self {
            Self::U32(ids) => ids.len(),
            Self::I32(ids) => ids.len(),
            Self::I64(ids) => ids.len(),
        }
    }

    fn at(&self, index: usize) -> i64 {
        match self {
            Self::U32(ids) => i64::from(ids[index]),
            Self::I32(ids) => i64::from(ids[index]),
            Self::I64(ids) => ids[index],
        }
    }

    /// Whether all ids of a range are u32. Folds instead of stopping early, so that it runs on whole vectors.
    fn fit(&self, start: usize, end: usize) -> bool {
        match self {
            Self::U32(_) => true,
            Self::I32(ids) => ids[start..end].iter().fold(0, |seen, &id| seen | id) >= 0,
            Self::I64(ids) => u32::try_from(ids[start..end].iter().fold(0, |seen, &id| seen | id)).is_ok(),
        }
    }
}

impl Offsets<'_> {
    fn len(&self) -> usize {
        match self {
            Self::I32(offsets) => offsets.len(),
            Self::I64(offsets) => offsets.len(),
        }
    }

    /// Offsets are checked to be positive and inside a slice before this is called.
    fn at(&self, index: usize) -> usize {
        match self {
            Self::I32(offsets) => offsets[index] as usize,
            Self::I64(offsets) => offsets[index] as usize,
        }
    }
}

fn fill(buffer: &mut Vec<u32>, ids: impl Iterator<Item = u32>) {
    buffer.clear();
    buffer.extend(ids);
}

fn invalid(message: &str) -> Error {
    Error::Invalid(message.into())
}
