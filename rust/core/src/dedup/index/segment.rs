//! One batch as an index records it: what the rows are, how they are linked, and the tokens of new texts.

use super::members::Members;
use crate::dedup::Edge;
use crate::dedup::exact::{NONE, hash};
use crate::ragged::Texts;

/// Stands for the length of a null row.
const NULL: u32 = u32::MAX;
/// Stands for the length of a row whose text came before; a link says where.
const COPY: u32 = u32::MAX - 1;

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

/// The codes of a batch whose first row has the number `first` in the index.
pub(super) fn codes(texts: &dyn Texts, of_row: &[u32], members: &Members, first: usize) -> Vec<u32> {
    let code = |(row, &member): (usize, &u32)| match member {
        NONE => NULL,
        member if members.row[member as usize] as usize == first + row => texts.length(row) as u32,
        _ => COPY,
    };
    of_row.iter().enumerate().map(code).collect()
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

    /// Adds the new texts to the members of an index, and returns the member of each row. `of_row`: those of the rows
    /// before; `ids`: the tokens, which begin at `start` in the file. What does not fit is named.
    pub fn members(
        &self,
        ids: &[u32],
        start: u64,
        members: &mut Members,
        of_row: &[u32],
    ) -> Result<Vec<u32>, &'static str> {
        let first = of_row.len();
        let mut found = Vec::with_capacity(self.codes.len());
        let mut at = 0;
        for (row, (&code, &group)) in self.codes.iter().zip(&self.groups).enumerate() {
            if !is_new(code) {
                found.push(NONE);
                continue;
            }
            let tokens = ids
                .get(at..at + code as usize)
                .ok_or("rows are longer than their tokens")?;
            found.push(members.push((first + row) as u32, code, hash(tokens, group), group));
            members.start.push(start + (at * size_of::<u32>()) as u64);
            at += code as usize;
        }
        for edge in &self.edges {
            let (i, j) = (edge.i as usize, edge.j as usize);
            let place = j.checked_sub(first).filter(|&place| place < found.len() && i < j);
            let place = place.ok_or("a link leads out of its batch")?;
            let other = if i < first { of_row[i] } else { found[i - first] };
            if self.codes[place] == NULL || other == NONE {
                return Err("a link leads to a row without text");
            }
            if self.codes[place] == COPY {
                found[place] = other;
            }
        }
        let lost = |(&code, &member): (&u32, &u32)| code == COPY && member == NONE;
        match self.codes.iter().zip(&found).any(lost) {
            true => Err("a copy has no original"),
            false => Ok(found),
        }
    }
}

fn is_new(code: u32) -> bool {
    code < COPY
}
