//! Files and folders in memory, the record of every change, and the faults.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use super::power::Image;

/// The number of the top folder.
pub const ROOT: u64 = 1;

/// One change, or one sync, that has succeeded; files and folders are named by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A file was made.
    Create {
        /// Its number.
        file: u64,
        /// In this folder.
        folder: u64,
        /// Under this name.
        name: OsString,
    },
    /// A folder was made.
    MakeFolder {
        /// Its number.
        file: u64,
        /// In this folder.
        folder: u64,
        /// Under this name.
        name: OsString,
    },
    /// A file or an empty folder was removed.
    Remove {
        /// From this folder.
        folder: u64,
        /// This name.
        name: OsString,
    },
    /// A file was renamed.
    Rename {
        /// From this folder.
        from: u64,
        /// And name.
        name: OsString,
        /// To this folder.
        to: u64,
        /// And name.
        new_name: OsString,
    },
    /// Bytes were written.
    Write {
        /// To this file.
        file: u64,
        /// At this offset.
        at: u64,
        /// These.
        data: Vec<u8>,
    },
    /// A file was made shorter or longer.
    SetLen {
        /// The file.
        file: u64,
        /// Its length, bytes.
        len: u64,
    },
    /// `fsync` or `fdatasync` of a file has returned.
    Sync {
        /// The file.
        file: u64,
    },
    /// `fsync` of a folder has returned.
    SyncFolder {
        /// The folder.
        folder: u64,
    },
    /// A mark of the test.
    Note(u64),
}

/// What a disk is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// To write.
    Write,
    /// To read.
    Read,
    /// `fsync` or `fdatasync` of a file.
    Sync,
    /// `fsync` of a folder.
    SyncFolder,
    /// A new file.
    Create,
    /// A new folder.
    MakeFolder,
    /// To remove something.
    Remove,
    /// To rename something.
    Rename,
    /// Another length.
    SetLen,
    /// Room in advance.
    Allocate,
    /// To open a file.
    Open,
}

/// How a disk fails.
#[derive(Clone, Debug)]
pub struct Fault {
    /// At what.
    pub what: What,
    /// Only on paths that contain this.
    pub path: String,
    /// At the how many-th time from now, counted from 1.
    pub nth: u64,
    /// How many times; from then on always: `u64::MAX`.
    pub times: u64,
    /// With this error number.
    pub errno: i32,
    /// A write that fails takes so many bytes first.
    pub some: usize,
}

impl Fault {
    /// Fails once at the `nth` time.
    pub fn once(what: What, nth: u64, errno: i32) -> Self {
        Self {
            what,
            path: String::new(),
            nth,
            times: 1,
            errno,
            some: 0,
        }
    }
}

pub(super) enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, u64>),
}

pub(super) struct Node {
    pub(super) content: Content,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) linked: bool,
    /// Where it was made, for faults.
    path: String,
}

/// Everything on the disk.
pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    log: Vec<Op>,
    /// Each with how often it was asked for since it was set.
    faults: Vec<(Fault, u64)>,
    struck: u64,
    counts: HashMap<(What, String), u64>,
}

fn folder() -> Content {
    Content::Folder(BTreeMap::new())
}

/// An error number.
pub(super) type Failed = i32;

impl Tree {
    pub(super) fn new() -> Self {
        let mut tree = Self {
            nodes: HashMap::new(),
            next: ROOT,
            log: Vec::new(),
            faults: Vec::new(),
            struck: 0,
            counts: HashMap::new(),
        };
        tree.add(folder(), 0o755, 0, 0, String::new());
        tree
    }

    fn add(&mut self, content: Content, mode: u16, uid: u32, gid: u32, path: String) -> u64 {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(
            number,
            Node {
                content,
                mode,
                uid,
                gid,
                linked: true,
                path,
            },
        );
        number
    }

    pub(super) fn note(&mut self, what: u64) {
        self.log.push(Op::Note(what));
    }

    pub(super) fn record(&self) -> Vec<Op> {
        self.log.clone()
    }

    pub(super) fn set_faults(&mut self, faults: Vec<Fault>) {
        if !faults.is_empty() {
            self.struck = 0;
        }
        self.faults = faults.into_iter().map(|f| (f, 0)).collect();
    }

    pub(super) fn struck(&self) -> u64 {
        self.struck
    }

    pub(super) fn count(&self, what: What, path: &str) -> u64 {
        let of = |(w, p): &(What, String)| *w == what && p.contains(path);
        self.counts
            .iter()
            .filter(|(k, _)| of(k))
            .map(|(_, n)| n)
            .sum()
    }

    /// The error that a fault has for this.
    pub(super) fn strike(&mut self, what: What, path: &str) -> Result<(), Failed> {
        self.strike_some(what, path).map_err(|(error, _)| error)
    }

    /// As [`Tree::strike`], with how many bytes a write takes first.
    fn strike_some(&mut self, what: What, path: &str) -> Result<(), (Failed, usize)> {
        *self.counts.entry((what, path.to_owned())).or_default() += 1;
        for (fault, asked) in &mut self.faults {
            if fault.what != what || !path.contains(&fault.path) {
                continue;
            }
            *asked += 1;
            if *asked >= fault.nth && *asked - fault.nth < fault.times {
                self.struck += 1;
                return Err((fault.errno, fault.some));
            }
        }
        Ok(())
    }

    pub(super) fn path(&self, number: u64) -> String {
        self.nodes
            .get(&number)
            .map_or_else(String::new, |n| n.path.clone())
    }

    pub(super) fn node(&self, number: u64) -> Result<&Node, Failed> {
        self.nodes.get(&number).ok_or(libc::ENOENT)
    }

    pub(super) fn node_mut(&mut self, number: u64) -> Result<&mut Node, Failed> {
        self.nodes.get_mut(&number).ok_or(libc::ENOENT)
    }

    pub(super) fn entries(&self, number: u64) -> Result<&BTreeMap<OsString, u64>, Failed> {
        match &self.node(number)?.content {
            Content::Folder(entries) => Ok(entries),
            Content::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn entries_mut(&mut self, number: u64) -> Result<&mut BTreeMap<OsString, u64>, Failed> {
        match &mut self.node_mut(number)?.content {
            Content::Folder(entries) => Ok(entries),
            Content::File(_) => Err(libc::ENOTDIR),
        }
    }

    pub(super) fn data(&self, number: u64) -> Result<&Vec<u8>, Failed> {
        match &self.node(number)?.content {
            Content::File(data) => Ok(data),
            Content::Folder(_) => Err(libc::EISDIR),
        }
    }

    fn data_mut(&mut self, number: u64) -> Result<&mut Vec<u8>, Failed> {
        match &mut self.node_mut(number)?.content {
            Content::File(data) => Ok(data),
            Content::Folder(_) => Err(libc::EISDIR),
        }
    }

    pub(super) fn look_up(&self, folder: u64, name: &OsStr) -> Result<u64, Failed> {
        self.entries(folder)?.get(name).copied().ok_or(libc::ENOENT)
    }

    /// Makes a file, or a folder.
    pub(super) fn make(
        &mut self,
        in_folder: u64,
        name: &OsStr,
        mode: u32,
        owner: (u32, u32),
        is_folder: bool,
    ) -> Result<u64, Failed> {
        let path = format!("{}/{}", self.path(in_folder), name.to_string_lossy());
        let what = if is_folder {
            What::MakeFolder
        } else {
            What::Create
        };
        self.strike(what, &path)?;
        if self.entries(in_folder)?.contains_key(name) {
            return Err(libc::EEXIST);
        }
        if !self.node(in_folder)?.linked {
            return Err(libc::ENOENT);
        }
        let content = if is_folder {
            folder()
        } else {
            Content::File(Vec::new())
        };
        let number = self.add(content, (mode & 0o7777) as u16, owner.0, owner.1, path);
        self.entries_mut(in_folder)?.insert(name.to_owned(), number);
        let (file, folder, name) = (number, in_folder, name.to_owned());
        self.log.push(if is_folder {
            Op::MakeFolder { file, folder, name }
        } else {
            Op::Create { file, folder, name }
        });
        Ok(number)
    }

    pub(super) fn remove(&mut self, folder: u64, name: &OsStr) -> Result<(), Failed> {
        let number = self.look_up(folder, name)?;
        self.strike(What::Remove, &self.path(number))?;
        if self.entries(number).is_ok_and(|e| !e.is_empty()) {
            return Err(libc::ENOTEMPTY);
        }
        self.entries_mut(folder)?.remove(name);
        self.node_mut(number)?.linked = false;
        let name = name.to_owned();
        self.log.push(Op::Remove { folder, name });
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        from: u64,
        name: &OsStr,
        to: u64,
        new_name: &OsStr,
    ) -> Result<(), Failed> {
        let number = self.look_up(from, name)?;
        self.strike(What::Rename, &self.path(number))?;
        self.entries_mut(from)?.remove(name);
        if let Some(old) = self.entries_mut(to)?.insert(new_name.to_owned(), number) {
            self.node_mut(old)?.linked = false;
        }
        self.log.push(Op::Rename {
            from,
            name: name.to_owned(),
            to,
            new_name: new_name.to_owned(),
        });
        Ok(())
    }

    /// How many bytes were taken.
    pub(super) fn write(&mut self, file: u64, at: u64, data: &[u8]) -> Result<usize, Failed> {
        let struck = self.strike_some(What::Write, &self.path(file));
        let some = match struck {
            Ok(()) => data.len(),
            Err((_, some)) => some.min(data.len()),
        };
        if some > 0 {
            let begin = usize::try_from(at).map_err(|_| libc::EFBIG)?;
            let all = self.data_mut(file)?;
            if all.len() < begin + some {
                all.resize(begin + some, 0);
            }
            all[begin..begin + some].copy_from_slice(&data[..some]);
            let data = data[..some].to_vec();
            self.log.push(Op::Write { file, at, data });
        }
        match struck {
            // What was taken is told first, as the kernel does; the next write hears of the error.
            Err(_) if some > 0 && some < data.len() => {
                let hit = |f: &Fault| f.what == What::Write && f.some > 0;
                if let Some((fault, asked)) = self.faults.iter_mut().find(|(f, _)| hit(f)) {
                    fault.some = 0;
                    *asked -= 1;
                }
                Ok(some)
            }
            Err((error, _)) => Err(error),
            Ok(()) => Ok(some),
        }
    }

    pub(super) fn set_len(&mut self, file: u64, len: u64) -> Result<(), Failed> {
        self.strike(What::SetLen, &self.path(file))?;
        let size = usize::try_from(len).map_err(|_| libc::EFBIG)?;
        self.data_mut(file)?.resize(size, 0);
        self.log.push(Op::SetLen { file, len });
        Ok(())
    }

    pub(super) fn allocate(&mut self, file: u64, len: u64) -> Result<(), Failed> {
        self.strike(What::Allocate, &self.path(file))?;
        if self.data(file)?.len() as u64 >= len {
            return Ok(());
        }
        let size = usize::try_from(len).map_err(|_| libc::EFBIG)?;
        self.data_mut(file)?.resize(size, 0);
        self.log.push(Op::SetLen { file, len });
        Ok(())
    }

    pub(super) fn sync(&mut self, number: u64, is_folder: bool) -> Result<(), Failed> {
        let what = if is_folder {
            What::SyncFolder
        } else {
            What::Sync
        };
        self.strike(what, &self.path(number))?;
        self.log.push(if is_folder {
            Op::SyncFolder { folder: number }
        } else {
            Op::Sync { file: number }
        });
        Ok(())
    }

    pub(super) fn load(&mut self, image: &Image) {
        // The numbers go on, so that the kernel takes nothing for something that it knows.
        let next = self.next;
        let fresh = Self::new();
        self.nodes = fresh.nodes;
        self.next = next.max(ROOT + 1);
        self.log.clear();
        self.faults.clear();
        for path in &image.folders {
            self.put(path, folder());
        }
        for (path, data) in &image.files {
            self.put(path, Content::File(data.clone()));
        }
        // What is there is there for good.
        let mut folders = vec![ROOT];
        while let Some(folder) = folders.pop() {
            self.log.push(Op::SyncFolder { folder });
            let entries: Vec<u64> = self
                .entries(folder)
                .map(|e| e.values().copied().collect())
                .unwrap_or_default();
            for file in entries {
                match self.entries(file) {
                    Ok(_) => folders.push(file),
                    Err(_) => self.log.push(Op::Sync { file }),
                }
            }
        }
    }

    fn put(&mut self, path: &std::path::Path, content: Content) {
        let mut at = ROOT;
        let parent = path.parent().unwrap_or(std::path::Path::new(""));
        for part in parent {
            at = self.look_up(at, part).expect("folders come before files");
        }
        let name = path.file_name().expect("a path has a name");
        let is_folder = matches!(content, Content::Folder(_));
        let number = self
            .make(
                at,
                name,
                if is_folder { 0o755 } else { 0o644 },
                (0, 0),
                is_folder,
            )
            .expect("an image names nothing twice");
        if let Content::File(data) = content {
            self.write(number, 0, &data).expect("there is room");
        }
    }
}
