//! Segment files: their names and the scan over their records.
//!
//! `segments/<number>-<salt>.log`, number as ten decimal digits, salt as sixteen hexadecimal
//! ones. Numbers rise and are never used again.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::record::{ALIGN, HEADER_BYTES, Header, HeaderError};

/// Largest number of a segment. There is always one behind it, and nobody writes so many.
pub(super) const SEGMENT_NUMBER_MAX: u32 = u32::MAX - 1;

/// A segment's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) number: u32,
    pub(super) salt: u64,
}

impl SegmentName {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, salt) = text.strip_suffix(".log")?.split_once('-')?;
        let name = Self {
            number: number.parse().ok()?,
            salt: u64::from_str_radix(salt, 16).ok()?,
        };
        // As we write it and not otherwise: the file is found again by its numbers.
        let ours = (1..=SEGMENT_NUMBER_MAX).contains(&name.number) && name.to_string() == text;
        ours.then_some(name)
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{:016x}.log", self.number, self.salt)
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) name: SegmentName,
    pub(super) file: Arc<File>,
    /// Bytes known to be synced.
    pub(super) synced: AtomicU64,
}

impl SegmentFile {
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }
}

/// What a scan finds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record whose header and head are good; see [`Scanner::head`].
    Record { at: u64, header: Header },
    /// A record with a good header whose head is damaged.
    BadHead { at: u64, header: Header },
    /// Bytes that are no records, with a record behind them.
    Hole { from: u64, to: u64 },
    /// From here to the end of the file there are no further whole records.
    Tail { from: u64, to: u64 },
    /// A record of a later format.
    Version(u8),
}

/// Walks over the records of a segment without reading bodies.
pub(super) struct Scanner<F> {
    file: F,
    salt: u64,
    len: u64,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    /// How much to read at once: more while records follow closely.
    chunk: usize,
    head: (u64, usize),
}

const CHUNK_MIN: usize = 4 << 10;
const CHUNK_MAX: usize = 256 << 10;

impl<F: Deref<Target = File>> Scanner<F> {
    pub(super) fn new(file: F, salt: u64, len: u64) -> Self {
        Self {
            file,
            salt,
            len,
            at: 0,
            window: Vec::new(),
            window_at: 0,
            chunk: CHUNK_MIN,
            head: (0, 0),
        }
    }

    /// Up to `want` bytes at `at`, fewer only at the end of the file.
    fn fetch(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX));
        let end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + want as u64 > end {
            let near = at >= self.window_at && at <= end + CHUNK_MIN as u64;
            self.chunk = if near {
                (self.chunk * 2).min(CHUNK_MAX)
            } else {
                CHUNK_MIN
            };
            let room = usize::try_from(self.len - at).unwrap_or(usize::MAX);
            let size = want.max(self.chunk).min(room);
            self.window.clear();
            self.window_at = at;
            self.window.resize(size, 0);
            let mut filled = 0;
            while filled < size {
                match self
                    .file
                    .read_at(&mut self.window[filled..], at + filled as u64)
                {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        self.window.clear();
                        return Err(e);
                    }
                }
            }
            self.window.truncate(filled);
        }
        let from = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        let have = self.window.get(from..).unwrap_or_default();
        Ok(&have[..want.min(have.len())])
    }

    /// The head of the record that was found last.
    pub(super) fn head(&mut self) -> io::Result<&[u8]> {
        let (at, len) = self.head;
        self.fetch(at, len)
    }

    /// The next thing, or `None` at the end of the file. An error of the disk ends the scan of
    /// this segment for the caller; asking again tries again.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        let at = self.at;
        if at >= self.len {
            return Ok(None);
        }
        let (salt, len) = (self.salt, self.len);
        match Header::decode(self.fetch(at, HEADER_BYTES)?, salt) {
            Ok(header) => {
                // Padding at the very end may be missing without harm.
                let unpadded =
                    HEADER_BYTES as u64 + u64::from(header.head_len) + u64::from(header.body_len);
                if at + unpadded > len {
                    self.at = len;
                    return Ok(Some(Found::Tail { from: at, to: len }));
                }
                self.head = (at + HEADER_BYTES as u64, header.head_len as usize);
                let good = crc32c::crc32c(self.head()?) == header.head_crc;
                self.at = at + header.record_len();
                Ok(Some(if good {
                    Found::Record { at, header }
                } else {
                    Found::BadHead { at, header }
                }))
            }
            Err(HeaderError::Version(version)) => Ok(Some(Found::Version(version))),
            Err(HeaderError::Damaged) => self.resync(at).map(Some),
        }
    }

    /// Looks for the next header behind a damaged one.
    fn resync(&mut self, from: u64) -> io::Result<Found> {
        let (salt, len) = (self.salt, self.len);
        let mut at = from + ALIGN as u64;
        while at + HEADER_BYTES as u64 <= len {
            let data = self.fetch(at, CHUNK_MAX)?;
            if data.len() < HEADER_BYTES {
                break;
            }
            let last = data.len() - HEADER_BYTES;
            let tried = (last / ALIGN + 1) * ALIGN;
            let hit = (0..=last)
                .step_by(ALIGN)
                .find(|&i| !matches!(Header::decode(&data[i..], salt), Err(HeaderError::Damaged)));
            if let Some(i) = hit {
                self.at = at + i as u64;
                return Ok(Found::Hole { from, to: self.at });
            }
            at += tried as u64;
        }
        self.at = len;
        Ok(Found::Tail { from, to: len })
    }
}

/// Reads exactly `len` bytes at `at`.
pub(super) fn read_exact(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; len];
    file.read_exact_at(&mut data, at)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for number in [1, 77, SEGMENT_NUMBER_MAX] {
            let name = SegmentName { number, salt: 0xab };
            assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        }
        // Each of these names no file that we would find again, or none that we could follow.
        for wrong in [
            "+000000001-00000000000000ab.log",
            "0000000001-+0000000000000ab.log",
            "0000000001-00000000000000AB.log",
            "1-ab.log",
            "0000000000-00000000000000ab.log",
            "4294967295-00000000000000ab.log",
            "0000000001-00000000000000ab.log.part",
            "lost+found",
        ] {
            assert_eq!(SegmentName::parse(wrong), None, "{wrong}");
        }
    }
}
