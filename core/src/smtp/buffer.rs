//! Where `emit` writes: the caller's bytes, never a heap.
//!
//! Make a [`Buffer`] over a slice, write, and ask [`Buffer::written`]. What doesn't fit is an
//! error and leaves the earlier bytes in place, so the caller can send them and try again.

use core::fmt;

/// The caller's buffer has no room for the whole line; nothing of the line counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferFull;

impl fmt::Display for BufferFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the output buffer is full")
    }
}
impl core::error::Error for BufferFull {}

/// A cursor over the caller's bytes.
#[derive(Debug)]
pub struct Buffer<'a> {
    bytes: &'a mut [u8],
    written: usize,
}

impl<'a> Buffer<'a> {
    /// Writes from the start of `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, written: 0 }
    }

    /// Octets written so far.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Appends `bytes` as they are, all or nothing.
    ///
    /// # Errors
    /// [`BufferFull`] if they don't fit.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), BufferFull> {
        let end = self.written.checked_add(bytes.len()).ok_or(BufferFull)?;
        self.bytes
            .get_mut(self.written..end)
            .ok_or(BufferFull)?
            .copy_from_slice(bytes);
        self.written = end;
        Ok(())
    }

    /// Appends `bytes` with every control character made `?`, so that what an application or a
    /// peer put into an argument or a text can never end the line (RFC 5321 4.1.1: one command,
    /// one line).
    ///
    /// # Errors
    /// [`BufferFull`] if they don't fit.
    pub fn put_printable(&mut self, bytes: &[u8]) -> Result<(), BufferFull> {
        let start = self.written;
        self.put(bytes)?;
        for b in self.bytes.iter_mut().take(self.written).skip(start) {
            if b.is_ascii_control() {
                *b = b'?';
            }
        }
        Ok(())
    }

    /// Appends formatted text.
    ///
    /// # Errors
    /// [`BufferFull`] if it doesn't fit.
    pub fn put_fmt(&mut self, args: fmt::Arguments<'_>) -> Result<(), BufferFull> {
        fmt::Write::write_fmt(self, args).map_err(|_| BufferFull)
    }
}

impl fmt::Write for Buffer<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.put(s.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_nothing() {
        let mut room = [0; 4];
        let mut b = Buffer::new(&mut room);
        b.put(b"abc").unwrap();
        assert_eq!(b.put(b"de"), Err(BufferFull));
        assert_eq!(b.written(), 3);
        b.put_printable(b"\n").unwrap();
        assert_eq!(&room, b"abc?");
    }
}
