//! The file of an index: segments, one behind the other, each with a header that says what follows and a checksum.
//!
//! A segment's header is written last, once everything else is on disk, so a process that is killed leaves either a whole
//! segment or a tail that begins with zeros. Such a tail is dropped; anything else that does not fit is damage.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::Hasher;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use super::IndexOptions;
use super::segment::Segment;
use crate::dedup::{Edge, Link};
use crate::error::about;
use crate::ragged::Texts;
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"tsoIndex";
const VERSION: u32 = 1;
/// Bytes of a header. Segments begin at multiples of it, so that no header crosses the border of two disk sectors.
const HEADER: u64 = 64;

/// The file, held for this process.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
    path: PathBuf,
    options: IndexOptions,
    /// Where the next segment goes.
    end: u64,
}

/// Numbers of a header.
struct Header {
    rows: u64,
    edges: u64,
    tokens: u64,
    checksum: u64,
}

impl IndexFile {
    /// Opens or makes the file and returns where its segments are.
    pub fn open(path: &Path, options: IndexOptions) -> Result<(Self, Vec<u64>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(about(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.into() }),
            Err(TryLockError::Error(error)) => return Err(about(path)(error)),
        }
        let length = file.metadata().map_err(about(path))?.len();
        let mut found = Self {
            file,
            path: path.into(),
            options,
            end: 0,
        };
        let mut segments = Vec::new();
        while let Some(header) = found.header(found.end, length)? {
            let next = padded(found.end + HEADER + header.payload());
            if next > length {
                return Err(found.bad("it ends within a batch"));
            }
            segments.push(found.end);
            found.end = next;
        }
        Ok((found, segments))
    }

    /// The header at a place; `None` at the end or where a process was killed while it wrote.
    fn header(&self, at: u64, length: u64) -> Result<Option<Header>> {
        if at + HEADER > length {
            return Ok(None);
        }
        let bytes = self.bytes(at, HEADER as usize)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return self.is_tail(at, length).map(|()| None);
        }
        if bytes[..8] != MAGIC {
            return Err(self.bad(if at == 0 {
                "it does not begin like one"
            } else {
                "a batch does not begin like one"
            }));
        }
        let word = |place: usize| u64::from_le_bytes(take(&bytes, place));
        let version = u32::from_le_bytes(take(&bytes, 8));
        if version != VERSION {
            return Err(self.bad(&format!("it has version {version}, this tso reads version {VERSION}")));
        }
        let header = Header {
            rows: word(32),
            edges: word(40),
            tokens: word(48),
            checksum: word(56),
        };
        if header.rows.max(header.edges) > u64::from(u32::MAX) || header.tokens > 1 << 48 {
            return Err(self.bad("a batch has impossible numbers"));
        }
        self.check_options(at, &bytes, &header)?;
        Ok(Some(header))
    }

    /// Other options than those asked for are the caller's mistake, unless the batch does not match its checksum.
    fn check_options(&self, at: u64, bytes: &[u8], header: &Header) -> Result<()> {
        let mine = self.head(&Header {
            rows: 0,
            edges: 0,
            tokens: 0,
            checksum: 0,
        });
        if mine[12..32] == bytes[12..32] {
            return Ok(());
        }
        let length = self.file.metadata().map_err(about(&self.path))?.len();
        if at > 0 || HEADER + header.payload() > length || self.checksum(bytes, header)? != header.checksum {
            return Err(self.bad("a batch does not match its checksum"));
        }
        let link = if u32::from_le_bytes(take(bytes, 12)) == Link::Star as u32 {
            "star"
        } else {
            "component"
        };
        let (ngram, threshold) = (u64::from_le_bytes(take(bytes, 16)), f64::from_le_bytes(take(bytes, 24)));
        Err(Error::Invalid(format!(
            "{} was made with ngram={ngram}, threshold={threshold}, link={link}; open it with these, or begin another index",
            self.path.display()
        )))
    }

    /// Of the first batch, which begins with these bytes.
    fn checksum(&self, bytes: &[u8], header: &Header) -> Result<u64> {
        let mut checksum = XxHash3_64::new();
        checksum.write(&bytes[..56]);
        checksum.write(&self.bytes(HEADER, header.payload() as usize)?);
        Ok(checksum.finish())
    }

    /// Fails if a whole batch follows somewhere behind zeros, for then they are damage and no unfinished batch.
    fn is_tail(&self, at: u64, length: u64) -> Result<()> {
        let mut at = at + HEADER;
        while at + 8 <= length {
            if self.bytes(at, 8)? == MAGIC {
                return Err(self.bad("zeros where a batch should begin"));
            }
            at += HEADER;
        }
        Ok(())
    }

    /// The segment at a place, its tokens, and where these begin in the file.
    pub fn read(&self, at: u64) -> Result<(Segment, Vec<u32>, u64)> {
        let header = self.header(at, u64::MAX)?.ok_or_else(|| self.bad("a batch is gone"))?;
        let payload = self.bytes(at + HEADER, header.payload() as usize)?;
        let mut checksum = XxHash3_64::new();
        checksum.write(&self.head(&Header { checksum: 0, ..header })[..56]);
        checksum.write(&payload);
        if checksum.finish() != header.checksum {
            return Err(self.bad("a batch does not match its checksum"));
        }
        let (rows, edges) = (header.rows as usize, header.edges as usize);
        let (codes, rest) = payload.split_at(4 * rows);
        let (groups, rest) = rest.split_at(8 * rows);
        let (links, tokens) = rest.split_at(16 * edges);
        let segment = Segment {
            codes: codes
                .chunks_exact(4)
                .map(|bytes| u32::from_le_bytes(take(bytes, 0)))
                .collect(),
            groups: groups
                .chunks_exact(8)
                .map(|bytes| i64::from_le_bytes(take(bytes, 0)))
                .collect(),
            edges: links.chunks_exact(16).map(edge).collect(),
        };
        let start = at + HEADER + (12 * rows + 16 * edges) as u64;
        let ids = tokens
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes(take(bytes, 0)))
            .collect();
        Ok((segment, ids, start))
    }

    /// Writes a segment and returns where its tokens begin. It is on disk when this returns, or not there at all.
    pub fn append(&mut self, segment: &Segment, texts: &dyn Texts) -> Result<u64> {
        let written = self.write(segment, texts);
        if written.is_err() {
            // The error that led here says more than one from cleaning up, and a tail of zeros is dropped anyway.
            let _ = self.file.set_len(self.end);
        }
        let next = written.map_err(about(&self.path))?;
        let start = self.end + HEADER + (12 * segment.codes.len() + 16 * segment.edges.len()) as u64;
        self.end = next;
        Ok(start)
    }

    fn write(&self, segment: &Segment, texts: &dyn Texts) -> io::Result<u64> {
        let mut header = Header {
            rows: segment.codes.len() as u64,
            edges: segment.edges.len() as u64,
            tokens: segment.tokens(),
            checksum: 0,
        };
        let next = padded(self.end + HEADER + header.payload());
        self.file.set_len(self.end)?;
        (&self.file).seek(SeekFrom::Start(self.end))?;
        let mut out = Summed {
            out: BufWriter::new(&self.file),
            checksum: XxHash3_64::new(),
        };
        out.checksum.write(&self.head(&header)[..56]);
        out.out.write_all(&[0; HEADER as usize])?;
        payload(segment, texts, &mut out)?;
        header.checksum = out.checksum.finish();
        out.out.flush()?;
        drop(out);
        self.file.set_len(next)?;
        self.file.sync_data()?;
        (&self.file).seek(SeekFrom::Start(self.end))?;
        (&self.file).write_all(&self.head(&header))?;
        self.file.sync_data()?;
        Ok(next)
    }

    fn head(&self, header: &Header) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.options.link as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.options.ngram as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.options.threshold.to_le_bytes());
        bytes[32..40].copy_from_slice(&header.rows.to_le_bytes());
        bytes[40..48].copy_from_slice(&header.edges.to_le_bytes());
        bytes[48..56].copy_from_slice(&header.tokens.to_le_bytes());
        bytes[56..].copy_from_slice(&header.checksum.to_le_bytes());
        bytes
    }

    /// Tokens that begin at a place in the file.
    pub fn tokens<'b>(&self, at: u64, length: usize, buffer: &'b mut Vec<u32>) -> Result<&'b [u32]> {
        buffer.clear();
        buffer.resize(length, 0);
        read_at(&self.file, bytemuck::cast_slice_mut(buffer), at).map_err(about(&self.path))?;
        buffer.iter_mut().for_each(|id| *id = u32::from_le(*id));
        Ok(buffer)
    }

    fn bytes(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        read_at(&self.file, &mut bytes, at).map_err(about(&self.path))?;
        Ok(bytes)
    }

    pub fn bad(&self, detail: &str) -> Error {
        Error::BadIndex {
            path: self.path.clone(),
            detail: detail.into(),
        }
    }
}

impl Header {
    /// Bytes that follow it.
    fn payload(&self) -> u64 {
        12 * self.rows + 16 * self.edges + 4 * self.tokens
    }
}

/// Writes and sums up at once.
struct Summed<W> {
    out: W,
    checksum: XxHash3_64,
}

impl<W: Write> Summed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.write(bytes);
        self.out.write_all(bytes)
    }
}

fn payload(segment: &Segment, texts: &dyn Texts, out: &mut Summed<impl Write>) -> io::Result<()> {
    segment.codes.iter().try_for_each(|code| out.put(&code.to_le_bytes()))?;
    segment
        .groups
        .iter()
        .try_for_each(|group| out.put(&group.to_le_bytes()))?;
    for edge in &segment.edges {
        out.put(&edge.i.to_le_bytes())?;
        out.put(&edge.j.to_le_bytes())?;
        out.put(&edge.jaccard.to_le_bytes())?;
    }
    let (mut buffer, mut bytes) = (Vec::new(), Vec::new());
    for row in segment.new_rows() {
        bytes.clear();
        bytes.extend(
            texts
                .read(row, &mut buffer)
                .unwrap_or(&[])
                .iter()
                .flat_map(|id| id.to_le_bytes()),
        );
        out.put(&bytes)?;
    }
    Ok(())
}

fn edge(bytes: &[u8]) -> Edge {
    Edge {
        i: u32::from_le_bytes(take(bytes, 0)),
        j: u32::from_le_bytes(take(bytes, 4)),
        jaccard: f64::from_le_bytes(take(bytes, 8)),
    }
}

fn take<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[place..place + N]);
    out
}

fn padded(at: u64) -> u64 {
    at.next_multiple_of(HEADER)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}
