//! Files that only the server may read: keys, passwords, users.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Why such a file isn't read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It isn't there.
    Missing,
    /// It is not as it should be; says what would be right.
    Wrong(String),
}

/// Reads a file that nobody but its owner may change and, but for a group of the server's own,
/// read. It is wiped when it is dropped. `harm` says what others could do with it, `what` what it
/// should be.
///
/// # Errors
/// [`Unread`].
pub fn read(
    path: &Path,
    bytes_max: u64,
    what: &str,
    harm: &str,
) -> Result<Zeroizing<Vec<u8>>, Unread> {
    // Without O_NONBLOCK, a pipe of this name would hold the server up until somebody writes.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let unreadable = |e: std::io::Error| {
        Unread::Wrong(format!("{e}; the server's user must be able to read it"))
    };
    let file = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Unread::Missing,
        _ => unreadable(e),
    })?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Unread::Wrong(format!("is no file; name {what}")));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o027 != 0 {
        return Err(Unread::Wrong(format!(
            "others than its owner may read or change it (mode {:03o}), and could {harm}: \
             chmod 600 it, or 640 with a group of the server's own",
            mode & 0o777
        )));
    }
    // All of it at once: a buffer that grows leaves what it held behind.
    let room = metadata.len().min(bytes_max) as usize + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    // One byte more than it may have tells that it has too many.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Unread::Wrong(format!(
            "it has more than {bytes_max} bytes; name {what}"
        )));
    }
    Ok(bytes)
}
