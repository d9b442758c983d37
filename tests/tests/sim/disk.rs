//! A disk that forgets what was not synced, fails, fills up, and stops at any operation.
//!
//! The files are real ones (in memory, where the system has `/dev/shm`), so that the spool reads
//! them as ever. What was changed since the last sync is noted here; a power cut takes it back, and
//! gives back whichever part of it chance says: nothing, all, or some writes, whole or torn at a
//! sector. A file whose folder wasn't synced may vanish, and one that was removed may come back.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use courser::spool::disk::{Disk, Room};

use crate::random::Random;

/// A torn write ends at a multiple of this, bytes.
const SECTOR: usize = 512;

/// How often what fails, in 1000 operations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Troubles {
    pub(crate) write_fails: u64,
    pub(crate) write_is_short: u64,
    pub(crate) sync_fails: u64,
}

#[derive(Debug)]
enum Change {
    Write {
        at: u64,
        old_len: u64,
        data: Vec<u8>,
    },
    Cut {
        to: u64,
        lost: Vec<u8>,
    },
}

#[derive(Debug, Default)]
struct Tracked {
    /// Since the last sync, in order.
    changes: Vec<Change>,
    /// Its name is not on disk yet.
    new: bool,
}

struct State {
    random: Random,
    files: BTreeMap<PathBuf, Tracked>,
    names: HashMap<u64, PathBuf>,
    /// Removed, and the folder not synced yet: what was on disk of it.
    removed: Vec<(PathBuf, Vec<u8>)>,
    troubles: Troubles,
    full: bool,
    /// Everything stops after so many further operations.
    stop_in: Option<u32>,
    dead: bool,
    /// Syncs do nothing: a fault that the checkers have to find.
    lies: bool,
    ops: u64,
    failures: u64,
    harms: Vec<Harm>,
}

/// Where a write may have come to nothing, or to a part of it: a file, and bytes of it.
#[derive(Clone)]
pub(crate) struct Harm {
    path: PathBuf,
    from: u64,
    to: u64,
}

impl Harm {
    /// Whether it is among these bytes, or ends where they begin, or the other way round.
    pub(crate) fn touches(&self, path: &Path, from: u64, to: u64) -> bool {
        self.path.file_name() == path.file_name() && self.from <= to && from <= self.to
    }
}

pub(crate) struct SimDisk(Mutex<State>);

impl SimDisk {
    pub(crate) fn new(random: Random) -> Self {
        Self(Mutex::new(State {
            random,
            files: BTreeMap::new(),
            names: HashMap::new(),
            removed: Vec::new(),
            troubles: Troubles::default(),
            full: false,
            stop_in: None,
            dead: false,
            lies: false,
            ops: 0,
            failures: 0,
            harms: Vec::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_troubles(&self, troubles: Troubles) {
        self.state().troubles = troubles;
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    pub(crate) fn lie_about_syncs(&self) {
        self.state().lies = true;
    }

    /// The process ends in the middle of the operation that is the `n`th from now.
    pub(crate) fn stop_in(&self, n: Option<u32>) {
        self.state().stop_in = n;
    }

    /// Whether it has come to that.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Operations so far, and how many of them failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.ops, state.failures)
    }

    /// Where writes were lost or torn and nothing was written over it since.
    pub(crate) fn harms(&self) -> Vec<Harm> {
        self.state().harms.clone()
    }

    /// A start has seen all harm, and left none behind.
    pub(crate) fn mended(&self) {
        self.state().harms.clear();
    }

    /// One byte of what is on disk for sure changes, and nobody knows: a fault that the checkers
    /// have to find.
    pub(crate) fn rot(&self) -> io::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        for path in state.names.values() {
            let Ok(mut image) = fs::read(path) else {
                continue;
            };
            // In the first record, which each segment has.
            let Some(byte) = image.get_mut(8) else {
                continue;
            };
            *byte ^= 1;
            fs::write(path, image)?;
        }
        Ok(())
    }

    /// The machine starts again.
    pub(crate) fn revive(&self) {
        let mut state = self.state();
        state.dead = false;
        state.stop_in = None;
    }

    /// The power fails: what is on disk is what was synced, and some of the rest.
    pub(crate) fn cut_power(&self) -> io::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let mode = state.random.below(4);
        for (path, tracked) in std::mem::take(&mut state.files) {
            if tracked.new && (mode == 0 || state.random.per_mille(300)) {
                fs::remove_file(&path)?;
                continue;
            }
            if tracked.changes.is_empty() {
                continue;
            }
            let mut image = undone(fs::read(&path)?, &tracked.changes);
            for change in &tracked.changes {
                redo(&mut image, change, mode, &mut state.random);
                let (from, len) = match change {
                    Change::Write { at, data, .. } => (*at, data.len()),
                    Change::Cut { to, lost } => (*to, lost.len()),
                };
                if mode != 1 {
                    state.harms.push(Harm {
                        path: path.clone(),
                        from,
                        to: from + len as u64,
                    });
                }
            }
            fs::write(&path, image)?;
        }
        for (path, image) in state.removed.drain(..) {
            if mode != 1 && state.random.per_mille(500) {
                fs::write(path, image)?;
            }
        }
        state.names.clear();
        Ok(())
    }
}

/// What is on disk for sure.
fn undone(mut image: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes.iter().rev() {
        match change {
            Change::Write { old_len, .. } => image.truncate(*old_len as usize),
            Change::Cut { to, lost } => {
                image.truncate(*to as usize);
                image.extend_from_slice(lost);
            }
        }
    }
    image
}

/// Mode 0: nothing more reached the disk; 1: all of it; else: some.
fn redo(image: &mut Vec<u8>, change: &Change, mode: u64, random: &mut Random) {
    if mode == 0 {
        return;
    }
    match change {
        Change::Write { at, data, .. } => {
            let mut data = &data[..];
            let at = *at as usize;
            if mode >= 2 {
                match random.below(4) {
                    0 => return,
                    1 => {
                        // Torn between two sectors of the disk.
                        let end = (at + random.below(data.len() as u64 + 1) as usize) / SECTOR;
                        data = &data[..(end * SECTOR).saturating_sub(at).min(data.len())];
                    }
                    _ => {}
                }
            }
            if image.len() < at + data.len() {
                image.resize(at + data.len(), 0);
            }
            image[at..at + data.len()].copy_from_slice(data);
        }
        Change::Cut { to, .. } => {
            if mode == 1 || random.per_mille(500) {
                image.truncate(*to as usize);
            }
        }
    }
}

impl State {
    /// Counts an operation. `false` when the process ends with it or has ended.
    fn goes_on(&mut self) -> bool {
        if self.dead {
            return false;
        }
        self.ops += 1;
        if let Some(left) = &mut self.stop_in {
            if *left == 0 {
                self.dead = true;
                return false;
            }
            *left -= 1;
        }
        true
    }

    fn fails(&mut self, per_mille: u64) -> bool {
        let fails = per_mille > 0 && self.random.per_mille(per_mille);
        self.failures += u64::from(fails);
        fails
    }

    fn path(&mut self, file: &File) -> io::Result<PathBuf> {
        let inode = file.metadata()?.ino();
        if let Some(path) = self.names.get(&inode) {
            return Ok(path.clone());
        }
        use std::os::fd::AsRawFd;
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        self.names.insert(inode, path.clone());
        Ok(path)
    }

    fn tracked(&mut self, file: &File) -> io::Result<&mut Tracked> {
        let path = self.path(file)?;
        Ok(self.files.entry(path).or_default())
    }

    /// A write that doesn't get through whole.
    fn harm(&mut self, file: &File, from: u64, len: usize) -> io::Result<()> {
        let path = self.path(file)?;
        let to = from + len as u64;
        self.harms.push(Harm { path, from, to });
        Ok(())
    }

    fn write(&mut self, file: &File, data: Vec<u8>, at: u64) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let old_len = file.metadata()?.len();
        file.write_all_at(&data, at)?;
        let path = self.path(file)?;
        let to = at + data.len() as u64;
        // Written again and whole.
        self.harms
            .retain(|h| h.path != path || h.from < at || h.to > to);
        let tracked = self.files.entry(path).or_default();
        tracked.changes.push(Change::Write { at, old_len, data });
        Ok(())
    }
}

fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Disk for SimDisk {
    fn write_at(&self, file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut data: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        let len = data.len();
        let mut state = self.state();
        if state.dead {
            state.harm(file, offset, len)?;
            return Ok(len);
        }
        if !state.goes_on() {
            // It ends in the middle of this write.
            state.harm(file, offset, len)?;
            let some = state.random.below(len as u64 + 1) as usize;
            data.truncate(some);
            state.write(file, data, offset)?;
            return Ok(len);
        }
        let fails = state.troubles.write_fails;
        if state.full || state.fails(fails) {
            state.failures += u64::from(state.full);
            state.harm(file, offset, len)?;
            let some = state.random.below(len as u64 + 1) as usize;
            data.truncate(some);
            state.write(file, data, offset)?;
            return Err(error(if state.full { libc::ENOSPC } else { libc::EIO }));
        }
        let short = state.troubles.write_is_short;
        if len > 1 && state.random.per_mille(short) {
            data.truncate(1 + state.random.below(len as u64 - 1) as usize);
        }
        let wrote = data.len();
        state.write(file, data, offset)?;
        Ok(wrote)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut state = self.state();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        if state.goes_on() {
            state.names.insert(file.metadata()?.ino(), path.into());
            let tracked = Tracked {
                new: true,
                ..Tracked::default()
            };
            state.files.insert(path.into(), tracked);
        } else {
            fs::remove_file(path)?;
        }
        Ok(file)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.goes_on() {
            return Ok(());
        }
        let image = fs::read(path)?;
        fs::remove_file(path)?;
        let tracked = state.files.remove(path).unwrap_or_default();
        if !tracked.new {
            let image = undone(image, &tracked.changes);
            state.removed.push((path.into(), image));
        }
        Ok(())
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        let mut state = self.state();
        if !state.goes_on() || state.lies {
            return Ok(());
        }
        let fails = state.troubles.sync_fails;
        if state.fails(fails) {
            return Err(error(libc::EIO));
        }
        state.tracked(file)?.changes.clear();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.goes_on() || state.lies {
            return Ok(());
        }
        for (path, tracked) in &mut state.files {
            if path.parent() == Some(dir) {
                tracked.new = false;
            }
        }
        state.removed.retain(|(path, _)| path.parent() != Some(dir));
        Ok(())
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if !state.goes_on() {
            return Ok(());
        }
        let old = file.metadata()?.len();
        if old > len {
            let mut lost = vec![0; (old - len) as usize];
            file.read_exact_at(&mut lost, len)?;
            file.set_len(len)?;
            let path = state.path(file)?;
            state.harms.retain(|h| h.path != path || h.from < len);
            let tracked = state.files.entry(path).or_default();
            tracked.changes.push(Change::Cut { to: len, lost });
        }
        Ok(())
    }

    fn allocate(&self, _: &File, _: u64) -> io::Result<()> {
        let mut state = self.state();
        let _ = state.goes_on();
        if state.full {
            return Err(error(libc::ENOSPC));
        }
        Ok(())
    }

    fn room(&self, _: &Path) -> io::Result<Room> {
        let full = self.state().full;
        Ok(Room {
            free: if full { 0 } else { 1 << 40 },
            total: 1 << 41,
        })
    }
}
