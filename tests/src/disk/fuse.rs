//! The kernel's requests, answered from the tree.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::tree::{Content, Failed, Tree, What};

/// The kernel keeps nothing.
const TTL: Duration = Duration::ZERO;
/// Unit of the file system's size.
const BLOCK: u32 = 4096;
/// Blocks of the whole file system: 64 GiB, of which nothing is ever taken.
const BLOCKS: u64 = 16 << 20;

pub(super) struct Served(pub(super) Arc<Mutex<Tree>>);

impl Served {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attr(tree: &Tree, number: u64) -> Result<FileAttr, Failed> {
    let node = tree.node(number)?;
    let (kind, size) = match &node.content {
        Content::File(data) => (FileType::RegularFile, data.len() as u64),
        Content::Folder(_) => (FileType::Directory, 0),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: node.mode,
        nlink: u32::from(node.linked),
        uid: node.uid,
        gid: node.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

macro_rules! answer {
    ($reply:ident, $done:expr, $ok:expr) => {
        match $done {
            Ok(done) => $ok(done),
            Err(error) => $reply.error(Errno::from_i32(error)),
        }
    };
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let tree = self.tree();
        let found = tree.look_up(parent.0, name).and_then(|n| attr(&tree, n));
        answer!(reply, found, |a| reply.entry(&TTL, &a, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, attr(&self.tree(), ino.0), |a| reply.attr(&TTL, &a));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        let mut set = || {
            if let Some(size) = size {
                tree.set_len(ino.0, size)?;
            }
            let node = tree.node_mut(ino.0)?;
            node.mode = mode.map_or(node.mode, |m| (m & 0o7777) as u16);
            node.uid = uid.unwrap_or(node.uid);
            node.gid = gid.unwrap_or(node.gid);
            attr(&tree, ino.0)
        };
        answer!(reply, set(), |a| reply.attr(&TTL, &a));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mut tree = self.tree();
        let owner = (request.uid(), request.gid());
        let made = tree
            .make(parent.0, name, mode & !umask, owner, true)
            .and_then(|n| attr(&tree, n));
        answer!(reply, made, |a| reply.entry(&TTL, &a, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.tree().remove(parent.0, name), |()| reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.tree().remove(parent.0, name), |()| reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.tree().rename(parent.0, name, to.0, new_name);
        answer!(reply, done, |()| reply.ok());
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut tree = self.tree();
        let path = tree.path(ino.0);
        answer!(reply, tree.strike(What::Open, &path), |()| reply
            .opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut tree = self.tree();
        let owner = (request.uid(), request.gid());
        let made = tree
            .make(parent.0, name, mode & !umask, owner, false)
            .and_then(|n| attr(&tree, n));
        answer!(reply, made, |a| reply.created(
            &TTL,
            &a,
            Generation(0),
            FileHandle(0),
            FopenFlags::FOPEN_DIRECT_IO
        ));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut tree = self.tree();
        let path = tree.path(ino.0);
        if let Err(error) = tree.strike(What::Read, &path) {
            return reply.error(Errno::from_i32(error));
        }
        answer!(reply, tree.data(ino.0), |data: &Vec<u8>| {
            let from = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(data.len());
            let to = from.saturating_add(size as usize).min(data.len());
            reply.data(&data[from..to]);
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let done = self.tree().write(ino.0, offset, data);
        answer!(reply, done, |n| reply.written(n as u32));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.tree().sync(ino.0, false), |()| reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.tree().sync(ino.0, true), |()| reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let tree = self.tree();
        let entries = match tree.entries(ino.0) {
            Ok(entries) => entries,
            Err(error) => return reply.error(Errno::from_i32(error)),
        };
        // Offsets are the numbers, which don't move when something is removed meanwhile.
        let mut all: Vec<_> = entries.iter().map(|(name, n)| (*n, name)).collect();
        all.sort_unstable();
        for (number, name) in all {
            let kind = match tree.entries(number) {
                Ok(_) => FileType::Directory,
                Err(_) => FileType::RegularFile,
            };
            if number > offset && reply.add(INodeNo(number), number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let done = self.tree().allocate(ino.0, offset + length);
        answer!(reply, done, |()| reply.ok());
    }
}
