//! One batch as an index records it: what the rows are, how they are linked, and the tokens of new texts.

use crate::dedup::Edge;

/// Stands for the length of a null row.
pub(super) const NULL: u32 = u32::MAX;
/// Stands for the length of a row whose text came before; a link says where.
pub(super) const COPY: u32 = u32::MAX - 1;

/// What is recorded of a batch beside its tokens.
#[derive(Debug)]
pub(super) struct Segment {
    /// The length of each row that has a new text, [`NULL`] or [`COPY`] for the others.
    pub codes: Vec<u32>,
    /// The group of each row.
    pub groups: Vec<i64>,
    /// Links between rows of the index, of which the larger is in this batch.
    pub edges: Vec<Edge>,
}

impl Segment {
    /// The rows of the batch that have a new text.
    pub fn new_rows(&self) -> impl Iterator<Item = usize> {
        (0..self.codes.len()).filter(|&row| is_new(self.codes[row]))
    }

    /// Tokens of all new texts together.
    pub fn tokens(&self) -> u64 {
        self.codes
            .iter()
            .filter(|&&code| is_new(code))
            .map(|&code| u64::from(code))
            .sum()
    }

    /// Offsets of all rows in the tokens of this segment, and which rows are null.
    pub fn layout(&self) -> (Vec<i64>, Vec<bool>) {
        let mut offsets = vec![0];
        for &code in &self.codes {
            offsets.push(offsets[offsets.len() - 1] + if is_new(code) { i64::from(code) } else { 0 });
        }
        (offsets, self.codes.iter().map(|&code| code == NULL).collect())
    }
}

pub(super) fn is_new(code: u32) -> bool {
    code < COPY
}
