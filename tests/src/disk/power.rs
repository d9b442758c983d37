//! What may be left of a recorded run after a power cut.
//!
//! [`Replay`] goes through a record, one [`Op`] after the other, and knows at each point what is
//! certain: of a file, what it held when it was last synced; of a folder, the names that it had when
//! it was last synced. Everything since then may or may not have reached the disk, in any order:
//! [`Replay::cut`] makes one such [`Image`], as its `seed` says.
//!
//! A disk is taken to be as unkind as POSIX lets it be: a file's `fsync` doesn't make its name
//! durable, names of one folder come and go independently of one another, and of a write any sector
//! may be there and any other not, with zeros or old rubbish where it isn't.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::tree::{Op, ROOT};

/// What is on a disk: its folders, and its files with their content, by their paths from the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Folders, each after the one that it lies in.
    pub folders: BTreeSet<PathBuf>,
    /// Files.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    /// Reads the folder `from`.
    ///
    /// # Errors
    /// The system's.
    pub fn read(from: &Path) -> io::Result<Self> {
        let (mut image, mut todo) = (Self::default(), vec![PathBuf::new()]);
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(from.join(&folder))? {
                let (entry, path) = entry.map(|e| (e.path(), folder.join(e.file_name())))?;
                if entry.is_dir() {
                    image.folders.insert(path.clone());
                    todo.push(path);
                } else {
                    image.files.insert(path, std::fs::read(entry)?);
                }
            }
        }
        Ok(image)
    }

    /// Writes it into the folder `to`.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, to: &Path) -> io::Result<()> {
        for folder in &self.folders {
            std::fs::create_dir_all(to.join(folder))?;
        }
        for (path, data) in &self.files {
            std::fs::write(to.join(path), data)?;
        }
        Ok(())
    }
}

/// A small generator, so that one seed is one cut.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// From any seed.
    pub fn new(seed: u64) -> Self {
        // SplitMix64's step spreads seeds that lie close together.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// Which of the changes since the last sync reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All: as after the end of the process alone.
    Kept,
    /// None.
    Dropped,
    /// All, but only so many bytes of the last write.
    Until(usize),
    /// As the seed says, for each file and folder: the first of them, with the last one torn; or any
    /// sectors or pages of them, with zeros or rubbish between.
    Seed(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => put(to, *at, data, 0),
            Self::SetLen(len) => to.resize(*len, 0),
        }
    }
}

fn put(to: &mut Vec<u8>, at: usize, data: &[u8], between: u8) {
    if to.len() < at + data.len() {
        to.resize(at + data.len(), between);
    }
    to[at..at + data.len()].copy_from_slice(data);
}

#[derive(Clone, Debug, Default)]
struct FileState {
    durable: Vec<u8>,
    now: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Naming {
    Put(OsString, u64),
    Take(OsString),
    Move(OsString, OsString, u64),
}

impl Naming {
    fn apply(&self, to: &mut BTreeMap<OsString, u64>) {
        match self {
            Self::Put(name, file) => drop(to.insert(name.clone(), *file)),
            Self::Take(name) => drop(to.remove(name)),
            Self::Move(name, new, file) => {
                to.remove(name);
                to.insert(new.clone(), *file);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct FolderState {
    durable: BTreeMap<OsString, u64>,
    now: BTreeMap<OsString, u64>,
    since: Vec<Naming>,
}

/// A record, replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    files: HashMap<u64, FileState>,
    folders: HashMap<u64, FolderState>,
    /// The file that was written last.
    last: Option<u64>,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            folders: HashMap::from([(ROOT, FolderState::default())]),
            last: None,
        }
    }
}

impl Replay {
    fn named(&mut self, folder: u64, naming: Naming) {
        let folder = self.folders.entry(folder).or_default();
        naming.apply(&mut folder.now);
        folder.since.push(naming);
    }

    fn changed(&mut self, file: u64, change: Change) {
        let file = self.files.entry(file).or_default();
        change.apply(&mut file.now);
        file.since.push(change);
    }

    /// The next thing that happened.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { file, folder, name } => {
                self.files.insert(*file, FileState::default());
                self.named(*folder, Naming::Put(name.clone(), *file));
            }
            Op::MakeFolder { file, folder, name } => {
                self.folders.insert(*file, FolderState::default());
                self.named(*folder, Naming::Put(name.clone(), *file));
            }
            Op::Remove { folder, name } => self.named(*folder, Naming::Take(name.clone())),
            Op::Rename {
                from,
                name,
                to,
                new_name,
            } => {
                let Some(&file) = self.folders.get(from).and_then(|f| f.now.get(name)) else {
                    return;
                };
                if from == to {
                    self.named(*from, Naming::Move(name.clone(), new_name.clone(), file));
                } else {
                    self.named(*from, Naming::Take(name.clone()));
                    self.named(*to, Naming::Put(new_name.clone(), file));
                }
            }
            Op::Write { file, at, data } => {
                let (at, data) = (*at as usize, data.clone());
                self.changed(*file, Change::Write { at, data });
                self.last = Some(*file);
            }
            Op::SetLen { file, len } => self.changed(*file, Change::SetLen(*len as usize)),
            Op::Sync { file } => {
                if let Some(file) = self.files.get_mut(file) {
                    file.since.clear();
                    file.durable.clone_from(&file.now);
                }
            }
            Op::SyncFolder { folder } => {
                if let Some(folder) = self.folders.get_mut(folder) {
                    folder.since.clear();
                    folder.durable.clone_from(&folder.now);
                }
            }
            Op::Note(_) => {}
        }
    }

    /// What a file held when it was synced last.
    pub fn durable(&self, file: u64) -> &[u8] {
        self.files.get(&file).map_or(&[], |f| &f.durable)
    }

    /// What a file holds while the power is on.
    pub fn now(&self, file: u64) -> &[u8] {
        self.files.get(&file).map_or(&[], |f| &f.now)
    }

    /// Whether a file has a name that a power cut can't take.
    pub fn is_named(&self, folder: u64, file: u64) -> bool {
        self.folders
            .get(&folder)
            .is_some_and(|f| f.durable.values().any(|n| *n == file))
    }

    /// What is on the disk after a power cut here, without the files that `leave_out` names.
    pub fn cut(&self, how: Cut, leave_out: &[&str]) -> Image {
        let mut random = Seeded::new(match how {
            Cut::Seed(seed) => seed,
            _ => 0,
        });
        let mut image = Image::default();
        let mut open = vec![(ROOT, PathBuf::new())];
        while let Some((folder, path)) = open.pop() {
            let Some(folder) = self.folders.get(&folder) else {
                continue;
            };
            for (name, number) in names(folder, how, &mut random) {
                let path = path.join(&name);
                if self.folders.contains_key(&number) {
                    image.folders.insert(path.clone());
                    open.push((number, path));
                } else if let Some(file) = self.files.get(&number)
                    && !leave_out.iter().any(|l| name == *l)
                {
                    let last = self.last == Some(number);
                    image
                        .files
                        .insert(path, content(file, how, last, &mut random));
                }
            }
        }
        image
    }
}

fn names(folder: &FolderState, how: Cut, random: &mut Seeded) -> BTreeMap<OsString, u64> {
    match how {
        Cut::Kept | Cut::Until(_) => return folder.now.clone(),
        Cut::Dropped => return folder.durable.clone(),
        Cut::Seed(_) => {}
    }
    let mut names = folder.durable.clone();
    let first = match random.below(4) {
        0 => 0,
        1 => folder.since.len(),
        2 => random.below(folder.since.len() as u64 + 1) as usize,
        _ => {
            for naming in &folder.since {
                if random.coin() {
                    naming.apply(&mut names);
                }
            }
            return names;
        }
    };
    folder.since[..first]
        .iter()
        .for_each(|n| n.apply(&mut names));
    names
}

fn content(file: &FileState, how: Cut, last: bool, random: &mut Seeded) -> Vec<u8> {
    match how {
        Cut::Kept => return file.now.clone(),
        Cut::Dropped => return file.durable.clone(),
        Cut::Until(bytes) => {
            let mut data = file.durable.clone();
            let (rest, changes) = match file.since.split_last() {
                Some((Change::Write { at, data }, before)) if last => {
                    (Some((*at, &data[..bytes.min(data.len())])), before)
                }
                _ => (None, &file.since[..]),
            };
            changes.iter().for_each(|c| c.apply(&mut data));
            if let Some((at, some)) = rest {
                put(&mut data, at, some, 0);
            }
            return data;
        }
        Cut::Seed(_) => {}
    }
    if file.since.is_empty() {
        return file.durable.clone();
    }
    let mut data = file.durable.clone();
    match random.below(6) {
        0 => {}
        1 => data.clone_from(&file.now),
        2 => {
            let whole = random.below(file.since.len() as u64) as usize;
            file.since[..whole].iter().for_each(|c| c.apply(&mut data));
            if let Change::Write { at, data: torn } = &file.since[whole] {
                // Up to the end of a sector of the disk.
                let end = at + random.below(torn.len() as u64 + 1) as usize;
                let end = (end / 512 * 512).max(*at);
                put(&mut data, *at, &torn[..end - at], 0);
            }
        }
        style => {
            let unit = if style == 3 { 512 } else { 4096 };
            let rubbish = style == 5;
            for change in &file.since {
                match change {
                    Change::SetLen(len) => {
                        if random.coin() {
                            data.resize(*len, 0);
                        }
                    }
                    Change::Write { at, data: written } => {
                        let mut from = 0;
                        while from < written.len() {
                            let to = ((at + from) / unit * unit + unit - at).min(written.len());
                            if random.coin() {
                                fill(&mut data, at + from, rubbish, random);
                                put(&mut data, at + from, &written[from..to], 0);
                            }
                            from = to;
                        }
                    }
                }
            }
            if random.coin() {
                fill(&mut data, file.now.len(), rubbish, random);
            }
        }
    }
    data
}

/// Makes `data` at least `len` long.
fn fill(data: &mut Vec<u8>, len: usize, rubbish: bool, random: &mut Seeded) {
    while data.len() < len {
        data.push(if rubbish { random.below(256) as u8 } else { 0 });
    }
}
