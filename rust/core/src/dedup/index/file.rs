//! The file of an index: its front, and segments, one behind the other, each with a header that says what follows and a
//! checksum.
//!
//! A segment's header is written last, once everything else is on disk, so a process that is killed leaves either a whole
//! segment or a tail that begins with zeros. Such a tail is dropped, unless the front says that a whole segment was there;
//! anything else that does not fit is damage.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::Hasher;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use super::IndexOptions;
use super::front::{self, HEADER, Unfit, take};
use super::segment::Segment;
use crate::dedup::Edge;
use crate::error::about;
use crate::ragged::Texts;
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"tsoBatch";
/// Of a segment; it goes up with the layout.
const VERSION: u32 = 1;

/// The file, held for this process.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
    path: PathBuf,
    options: IndexOptions,
    /// Where the next segment goes.
    end: u64,
    /// The process that opened it.
    process: u32,
}

impl Drop for IndexFile {
    /// A forked child holds the same lock, which would outlive this process's hold on the file.
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = self.file.unlock();
        }
    }
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
            end: HEADER,
            process: std::process::id(),
        };
        let durable = if length == 0 {
            found.begin()?
        } else {
            found.front(length)?
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
        if found.end < durable {
            return Err(found.bad("a batch that was on disk is gone"));
        }
        Ok((found, segments))
    }

    /// Writes the front of a new file; what it says of how far batches reach.
    fn begin(&self) -> Result<u64> {
        let written = self.note(HEADER).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a front is no index; an empty file may be begun again.
            let _ = self.file.set_len(0);
        }
        written.map_err(about(&self.path)).map(|()| HEADER)
    }

    /// Notes in the front that batches are on disk up to `end`.
    fn note(&self, end: u64) -> io::Result<()> {
        (&self.file).seek(SeekFrom::Start(0))?;
        (&self.file).write_all(&front::write(self.options, end))
    }

    /// What the front says of how far batches reach. Other options than those asked for are the caller's mistake.
    fn front(&self, length: u64) -> Result<u64> {
        if length < HEADER {
            return Err(self.bad("it does not begin like one"));
        }
        front::read(&take(&self.bytes(0, HEADER as usize)?, 0), self.options).map_err(|unfit| match unfit {
            Unfit::Damaged(detail) => self.bad(&detail),
            Unfit::Options(made) => Error::Invalid(format!(
                "{} was made with {made}; open it with these, or begin another index",
                self.path.display()
            )),
        })
    }

    /// A forked child has a copy of what is in memory, and would write over what its parent adds.
    ///
    /// # Errors
    /// [`Error::Invalid`] in any process but the one that opened the file.
    pub fn require_process(&self) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{} was opened by the parent process, and only one process can have it open; add its rows there",
            self.path.display()
        )))
    }

    /// The header at a place; `None` at the end or where a process was killed while it wrote.
    fn header(&self, at: u64, length: u64) -> Result<Option<Header>> {
        let bytes = self.bytes(at, HEADER.min(length.saturating_sub(at)) as usize)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return self.is_tail(at, length).map(|()| None);
        }
        if bytes.len() < HEADER as usize || bytes[..8] != MAGIC {
            return Err(self.bad("a batch does not begin like one"));
        }
        let word = |place: usize| u64::from_le_bytes(take(&bytes, place));
        let header = Header {
            rows: word(32),
            edges: word(40),
            tokens: word(48),
            checksum: word(56),
        };
        if header.rows.max(header.edges) > u64::from(u32::MAX) || header.tokens > 1 << 48 {
            return Err(self.bad("a batch has impossible numbers"));
        }
        if self.head(&header)[..] != bytes {
            return Err(self.bad("a batch has another version or other options than its index"));
        }
        Ok(Some(header))
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
        // Where this fails, the front says less than there is: a loss of this batch would not be noticed, no more.
        let _ = self.note(next);
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
        bytes[12..32].copy_from_slice(&front::told(self.options));
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
