//! Where the tokens of an index lie: in memory or in its file.

use super::file::IndexFile;
use super::segment::Segment;
use crate::Result;
use crate::ragged::Texts;

#[derive(Debug)]
pub(super) enum Tokens {
    Memory(Vec<u32>),
    File(IndexFile),
}

impl Tokens {
    /// The tokens from `start` on; `buffer` holds them where they had to be read.
    pub fn read<'b>(&'b self, start: u64, length: usize, buffer: &'b mut Vec<u32>) -> Result<&'b [u32]> {
        match self {
            Self::Memory(ids) => Ok(&ids[start as usize..start as usize + length]),
            Self::File(file) => file.tokens(start, length, buffer),
        }
    }

    /// Records a batch, all or nothing. `starts` gets an entry for each new member.
    pub fn append(&mut self, segment: &Segment, texts: &dyn Texts, starts: &mut Vec<u64>) -> Result<()> {
        match self {
            Self::Memory(ids) => {
                let mut buffer = Vec::new();
                for row in segment.new_rows() {
                    starts.push(ids.len() as u64);
                    ids.extend_from_slice(texts.read(row, &mut buffer).unwrap_or(&[]));
                }
                Ok(())
            }
            Self::File(file) => {
                let mut start = file.append(segment, texts)?;
                for row in segment.new_rows() {
                    starts.push(start);
                    start += (texts.length(row) * size_of::<u32>()) as u64;
                }
                Ok(())
            }
        }
    }
}
