//! The sketches of all members, as keys: one for each band, and members that share one are candidates.

use rayon::prelude::*;

use super::buckets::{self, Scratch, Shared, Sieve};
use super::corpus::Source;
use super::minhash::{self, Sketcher};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result, shingle};

/// Keys by band, so that a band is read without the others, in blocks, so that more members can come later.
#[derive(Debug)]
pub(crate) struct Sketches {
    sketcher: Sketcher,
    members: usize,
    /// Members in a block.
    size: usize,
    /// Blocks of [bands, size].
    blocks: Vec<Box<[u32]>>,
    /// Members that share a key with nobody, whatever their keys are, as a bit each; empty where there are none.
    absent: Vec<u64>,
}

/// Rows whose ids are checked together: one stretch of memory is read faster than many short ones, and what is read stays
/// near until the rows are sketched.
const CHECKED: usize = 64;

impl Sketches {
    /// Members in a block at most.
    const SIZE: usize = 1024;
    /// Blocks at least, for as many threads to fill them.
    const BLOCKS: usize = 64;

    /// Without members; about so many are expected.
    pub fn new(threshold: f64, members: usize) -> Self {
        Self {
            sketcher: Sketcher::new(threshold),
            members: 0,
            size: (members / Self::BLOCKS).clamp(1, Self::SIZE),
            blocks: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// Those of all rows, and a key of each whole row that equal rows of one group share, in one pass over the tokens.
    pub fn of_rows(
        texts: &dyn Texts,
        group: &(impl Fn(usize) -> i64 + Sync),
        ngram: usize,
        threshold: f64,
        stop: &Stop,
    ) -> Result<(Self, Vec<u32>)> {
        let rows = texts.rows();
        let mut all = Self::new(threshold, rows);
        all.make_room(rows);
        let (sketcher, size, bands) = (&all.sketcher, all.size, all.bands());
        let mut exact = vec![0; rows];
        all.blocks
            .par_iter_mut()
            .zip(exact.par_chunks_mut(size))
            .enumerate()
            .try_for_each_init(
                || (Vec::new(), minhash::Scratch::default(), vec![0; bands]),
                |(buffer, scratch, keys), (block, (out, exact))| {
                    let end = block * size + exact.len();
                    for (place, exact) in exact.iter_mut().enumerate() {
                        stop.check()?;
                        let row = block * size + place;
                        if place % CHECKED == 0 {
                            texts.check(row..end.min(row + CHECKED))?;
                        }
                        let (tokens, group) = (texts.read(row, buffer), group(row));
                        let salt = shingle::mix(group as u64);
                        let whole = sketcher.keys(tokens.unwrap_or(&[]), ngram, salt, scratch, keys);
                        // What a null row gets says nothing, but many of the same would be compared.
                        *exact = tokens.map_or(row as u32, |_| whole);
                        for (band, &key) in keys.iter().enumerate() {
                            out[band * size + place] = key;
                        }
                    }
                    Ok::<_, Error>(())
                },
            )?;
        Ok((all, exact))
    }

    /// Leaves out members, as if they shared no key with anybody.
    pub fn leave_out(&mut self, absent: &[bool]) {
        let words = absent.chunks(u64::BITS as usize);
        let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit));
        self.absent = words.map(word).collect();
    }

    fn is_absent(&self, member: u32) -> bool {
        let word = self.absent.get((member / u64::BITS) as usize);
        word.is_some_and(|word| word >> (member % u64::BITS) & 1 == 1)
    }

    /// Bytes of memory that are held.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * self.size * self.bands() * size_of::<u32>()
            + self.blocks.capacity() * size_of::<Box<[u32]>>()
    }

    /// Sketches the members of `source` that are not here yet. Where it fails, `truncate` takes back what it did.
    pub fn extend(&mut self, source: &impl Source, stop: &Stop) -> Result<()> {
        let (old, members, size, bands) = (self.members, source.len(), self.size, self.bands());
        self.make_room(members);
        let (sketcher, first) = (&self.sketcher, old / size);
        self.blocks[first..].par_iter_mut().enumerate().try_for_each_init(
            || (Vec::new(), minhash::Scratch::default(), vec![0; bands]),
            |(buffer, scratch, keys), (block, out)| {
                let start = (first + block) * size;
                for member in start.max(old)..members.min(start + size) {
                    stop.check()?;
                    let tokens = source.tokens(member as u32, buffer)?;
                    sketcher.keys(tokens, source.ngram(), source.salt(member as u32), scratch, keys);
                    for (band, &key) in keys.iter().enumerate() {
                        out[band * size + member - start] = key;
                    }
                }
                Ok::<_, Error>(())
            },
        )
    }

    fn make_room(&mut self, members: usize) {
        let (blocks, length) = (members.div_ceil(self.size), self.size * self.bands());
        self.blocks.reserve_exact(blocks - self.blocks.len());
        self.blocks.resize_with(blocks, || vec![0; length].into_boxed_slice());
        self.members = members;
    }

    /// Forgets all but the first members.
    pub fn truncate(&mut self, members: usize) {
        self.members = self.members.min(members);
        self.blocks.truncate(self.members.div_ceil(self.size));
    }

    pub fn bands(&self) -> usize {
        self.sketcher.bands()
    }

    /// The members that share a key with one from `first` on, band by band.
    pub fn shared(&self, first: u32, stop: &Stop) -> Result<Vec<Shared>> {
        let bands: Vec<usize> = (0..self.bands()).collect();
        // A part for each thread: what a part needs is large, and memory is slow to get.
        let parts = bands.par_chunks(self.bands().div_ceil(rayon::current_num_threads()));
        let found: Result<Vec<Vec<Shared>>> = parts
            .map(|bands| {
                let mut scratch = Scratch::default();
                let shared = |&band: &usize| self.shared_in(band, first, &mut scratch, stop);
                bands.iter().map(shared).collect()
            })
            .collect();
        Ok(found?.into_iter().flatten().collect())
    }

    fn shared_in(&self, band: usize, first: u32, scratch: &mut Scratch, stop: &Stop) -> Result<Shared> {
        let all = self.band(band);
        let wanted = |member| !self.is_absent(member);
        if first == 0 {
            return buckets::group(self.members, all, wanted, scratch, stop);
        }
        let sieve = Sieve::new(self.members - first as usize, self.band_from(band, first));
        let met = all.filter(|&(member, key)| member >= first || sieve.lets(key));
        Ok(buckets::group(self.members - first as usize, met, wanted, scratch, stop)?.from(first))
    }

    /// All members with their keys in one band.
    fn band(&self, band: usize) -> impl Iterator<Item = (u32, u32)> + Clone {
        self.band_from(band, 0)
    }

    /// The members from `first` on with their keys in one band.
    fn band_from(&self, band: usize, first: u32) -> impl Iterator<Item = (u32, u32)> + Clone {
        let (size, first) = (self.size, first as usize);
        let blocks = self.blocks.iter().enumerate().skip(first / size);
        let keys = blocks.flat_map(move |(block, keys)| {
            let from = first.saturating_sub(block * size);
            &keys[band * size..][from..size.min(self.members - block * size)]
        });
        keys.enumerate().map(move |(place, &key)| ((first + place) as u32, key))
    }

    /// Whether a band brought the two together, but for the bands in a mask.
    pub fn met(&self, a: u32, b: u32, bands: usize, but: u64) -> bool {
        (0..bands).any(|band| but >> band & 1 == 0 && self.key(a, band) == self.key(b, band))
    }

    fn key(&self, member: u32, band: usize) -> u32 {
        let (block, place) = (member as usize / self.size, member as usize % self.size);
        self.blocks[block][band * self.size + place]
    }
}
