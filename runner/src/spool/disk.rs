//! The few calls through which the spool changes the disk, as a seam: tests put a failing disk
//! in their place ([`Options::disk`](super::Options::disk)); everybody else uses [`Os`].

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How much room a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that we may still write.
    pub free: u64,
    /// Size of the file system, bytes.
    pub total: u64,
}

/// What the spool asks of a disk. Errors are the system's.
pub trait Disk: Send + Sync {
    /// `pwritev`: writes some of `bufs` at `offset`.
    fn write_at(&self, file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, bufs, offset)?)
    }

    /// `open` of a file that isn't there yet, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
    }

    /// `unlink`.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// `fdatasync`.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Whether the file still has a name: without one, what is written to it is gone when it is
    /// closed.
    fn is_linked(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() > 0)
    }

    /// `fsync` of a directory.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// `ftruncate`.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Makes `file` own `len` bytes of disk.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            file,
            rustix::fs::FallocateFlags::empty(),
            0,
            len,
        )?)
    }

    /// `statvfs`.
    fn room(&self, dir: &Path) -> io::Result<Room> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

/// The operating system's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl Disk for Os {}

/// `pwritev` until everything is written.
pub(super) fn write_all(
    disk: &dyn Disk,
    file: &File,
    mut bufs: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    /// `IOV_MAX` of Linux.
    const IOV_MAX: usize = 1024;
    // Empty slices at the front would make a write of nothing look like a full disk.
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let some = &bufs[..bufs.len().min(IOV_MAX)];
        match disk.write_at(file, some, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut bufs, n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
