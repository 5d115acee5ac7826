//! The first bytes of an index file: what it is, what it was made with, and how far its batches are known to be on disk.
//!
//! They are written before anything else, so a file without them is no index. How far batches reach is noted once they
//! are on disk, and never sooner: a file that ends before that place has lost some.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

use super::IndexOptions;
use crate::dedup::Link;

/// Bytes of a header, this one or a segment's. They begin at multiples of it, so that none crosses the border of two disk
/// sectors.
pub(super) const HEADER: u64 = 64;

const MAGIC: [u8; 8] = *b"tsoIndex";
const VERSION: u32 = 2;

/// Why the first bytes of a file are not those of an index made with some options.
pub(super) enum Unfit {
    /// The file is not one that can be read, and why.
    Damaged(String),
    /// It was made with these other options, in words.
    Options(String),
}

/// The first bytes of an index with these options, whose batches are on disk up to `end`.
pub(super) fn write(options: IndexOptions, end: u64) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..32].copy_from_slice(&told(options));
    bytes[32..40].copy_from_slice(&end.to_le_bytes());
    let sum = checksum(&bytes);
    bytes[56..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// How far batches are known to be on disk.
pub(super) fn read(bytes: &[u8; HEADER as usize], options: IndexOptions) -> Result<u64, Unfit> {
    if bytes[..8] != MAGIC {
        return Err(Unfit::Damaged("it does not begin like one".into()));
    }
    let version = u32::from_le_bytes(take(bytes, 8));
    if version != VERSION {
        return Err(Unfit::Damaged(format!(
            "it has version {version}, and this tso reads version {VERSION}: add its rows to a new index"
        )));
    }
    if checksum(bytes) != u64::from_le_bytes(take(bytes, 56)) {
        return Err(Unfit::Damaged("its beginning does not match its checksum".into()));
    }
    if bytes[12..32] != told(options) {
        return Err(Unfit::Options(in_words(bytes)));
    }
    Ok(u64::from_le_bytes(take(bytes, 32)))
}

/// What an index is made with, as bytes.
pub(super) fn told(options: IndexOptions) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&(options.link as u32).to_le_bytes());
    bytes[4..12].copy_from_slice(&(options.ngram as u64).to_le_bytes());
    bytes[12..].copy_from_slice(&options.threshold.to_le_bytes());
    bytes
}

fn in_words(bytes: &[u8]) -> String {
    let link = if u32::from_le_bytes(take(bytes, 12)) == Link::Star as u32 {
        "star"
    } else {
        "component"
    };
    let (ngram, threshold) = (u64::from_le_bytes(take(bytes, 16)), f64::from_le_bytes(take(bytes, 24)));
    format!("ngram={ngram}, threshold={threshold}, link={link}")
}

fn checksum(bytes: &[u8; HEADER as usize]) -> u64 {
    let mut checksum = XxHash3_64::new();
    checksum.write(&bytes[..56]);
    checksum.finish()
}

pub(super) fn take<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[place..place + N]);
    out
}
