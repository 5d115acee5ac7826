//! Between the rows of a batch and the members of an index: how rows are written down, and what they were when read back.

use super::members::Members;
use super::segment::{COPY, NULL, Segment, is_new};
use crate::dedup::exact::{NONE, hash};
use crate::ragged::Texts;

/// The codes of a batch whose first row has the number `first` in the index.
pub(super) fn codes(texts: &dyn Texts, of_row: &[u32], members: &Members, first: usize) -> Vec<u32> {
    let code = |(row, &member): (usize, &u32)| match member {
        NONE => NULL,
        member if members.row[member as usize] as usize == first + row => texts.length(row) as u32,
        _ => COPY,
    };
    of_row.iter().enumerate().map(code).collect()
}

/// Adds the new texts of a segment to the members of an index, and returns the member of each row. `of_row`: those of the
/// rows before; `ids`: the tokens, which begin at `start` in the file. What does not fit is named.
pub(super) fn members(
    segment: &Segment,
    ids: &[u32],
    start: u64,
    members: &mut Members,
    of_row: &[u32],
) -> Result<Vec<u32>, &'static str> {
    let first = of_row.len();
    let mut found = Vec::with_capacity(segment.codes.len());
    let mut at = 0;
    for (row, (&code, &group)) in segment.codes.iter().zip(&segment.groups).enumerate() {
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
    for edge in &segment.edges {
        let (i, j) = (edge.i as usize, edge.j as usize);
        let place = j.checked_sub(first).filter(|&place| place < found.len() && i < j);
        let place = place.ok_or("a link leads out of its batch")?;
        let other = if i < first { of_row[i] } else { found[i - first] };
        if segment.codes[place] == NULL || other == NONE {
            return Err("a link leads to a row without text");
        }
        if segment.codes[place] == COPY {
            found[place] = other;
        }
    }
    let lost = |(&code, &member): (&u32, &u32)| code == COPY && member == NONE;
    match segment.codes.iter().zip(&found).any(lost) {
        true => Err("a copy has no original"),
        false => Ok(found),
    }
}
