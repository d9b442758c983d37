//! Opening the spool, its handle, and reading from it.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::batch::{Batch, CommitSink, Refused, RefusedWhy};
use super::disk::{Disk, Os};
use super::envelope::Envelope;
use super::index::{Index, Place};
use super::queue::Queue;
use super::reclaim::Reclaimer;
use super::record::Outcome;
use super::recover::{self, Damage, DamageKind, Recovery};
use super::segment::{SegmentName, read_exact};
use super::syncer::Syncer;
use super::writer::Writer;

/// Ids that are set aside at every start, so that none is ever given twice.
pub(super) const IDS_BLOCK: u64 = 1 << 32;

/// Changes of state, and pieces of damage, that are kept for whoever asks; the oldest go first.
const UNTOLD_MAX: usize = 64;

/// Settings of the spool.
#[derive(Clone)]
pub struct Options {
    /// A segment is closed when it has this many bytes; 64 kB to 16 GiB. Smaller ones are freed
    /// sooner, larger ones need fewer files. Default 128 MiB.
    pub segment_bytes: u64,
    /// Most bytes of all segments together. Messages are refused a quarter, or the reserve and
    /// one segment, below it. Default: no limit of its own.
    pub max_bytes: u64,
    /// Refuse messages when fewer bytes than this are free on the file system. Default 256 MiB.
    pub min_free_bytes: u64,
    /// Refuse messages when less than this percentage is free. Default 2.
    pub min_free_percent: u8,
    /// Bytes allocated at the start and given up when the disk is full, so that outcomes can
    /// still be written. Default 16 MiB.
    pub reserve_bytes: u64,
    /// Whether `fdatasync` is called before a message counts as kept. Without it, everything
    /// survives the end of the process and nothing a power failure; for tests and benches.
    /// Default yes.
    pub sync: bool,
    /// Most bytes written with one call; a larger record goes alone. Default 16 MiB.
    pub write_bytes: usize,
    /// Most bytes of messages that wait to be written; more are refused as busy. Default 256 MiB.
    pub pending_bytes: usize,
    /// Most bytes of outcomes that wait to be written. Default 32 MiB.
    pub pending_outcome_bytes: usize,
    /// A closed segment of which less than this percentage lives is copied forward. Default 35;
    /// twice as much while the spool is nearly full.
    pub sparse_percent: u8,
    /// But not before it has been closed for so long: by then most of what was on its way has arrived,
    /// and need not be copied. At once while the spool is nearly full, or half of `max_bytes` is used.
    /// Default 10 s.
    pub settle: Duration,
    /// Most files that are kept open for reading. Default 64.
    pub open_files: usize,
    /// Most bytes of damaged records that are kept in `corrupt/`. Default 1 GiB.
    pub corrupt_bytes: u64,
    /// Deliveries that ended since then, milliseconds since 1970, are in [`Recovery::ended`]. Default:
    /// none.
    pub endings_since_ms: Option<u64>,
    /// Called, and waited for, before segments are removed that a start after a crash could make up
    /// events from.
    pub before_unlink: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The disk; tests put a failing one here.
    #[doc(hidden)]
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            max_bytes: u64::MAX,
            min_free_bytes: 256 << 20,
            min_free_percent: 2,
            reserve_bytes: 16 << 20,
            sync: true,
            write_bytes: 16 << 20,
            pending_bytes: 256 << 20,
            pending_outcome_bytes: 32 << 20,
            sparse_percent: 35,
            settle: Duration::from_secs(10),
            open_files: 64,
            corrupt_bytes: 1 << 30,
            endings_since_ms: None,
            before_unlink: None,
            disk: Arc::new(Os),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("segment_bytes", &self.segment_bytes)
            .field("max_bytes", &self.max_bytes)
            .field("min_free_bytes", &self.min_free_bytes)
            .field("min_free_percent", &self.min_free_percent)
            .field("reserve_bytes", &self.reserve_bytes)
            .finish_non_exhaustive()
    }
}

/// The spool can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another server has it open.
    #[error("the spool {dir} is in use by process {pid}")]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The other process, as the lock file says; 0 if it doesn't say.
        pid: u32,
    },
    /// It was written by a later version of this program.
    #[error(
        "the spool's segment {path} has records of version {version}, which this program doesn't know; use the program that wrote it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// A setting is out of its range.
    #[error("spool setting {0}")]
    Option(&'static str),
    /// The system refused something.
    #[error("the spool's {path}: {error}{}", advice(.error))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// What would be right, where that is known.
fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            format!("; the user that runs this (uid {user}) must own the folder named in spool.dir")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; its file system has to be mounted writable, or spool.dir has to name another".into()
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; spool.dir has to name a folder".into()
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room on its file system, a few MB at least".into()
        }
        _ => String::new(),
    }
}

impl SpoolError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            path: path.into(),
            error,
        }
    }
}

/// A body can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such message, or it is finished.
    #[error("no such message in the spool")]
    Unknown,
    /// Its checksum is wrong. The record was copied to `corrupt/`.
    #[error("the message's content is damaged on disk")]
    Corrupt,
    /// The system refused.
    #[error("reading the spool: {0}")]
    Io(#[from] io::Error),
}

/// Whether the spool takes messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolState {
    /// It does.
    Open,
    /// Refused until there is room again; outcomes are still kept.
    NearlyFull {
        /// What is short.
        reason: Arc<str>,
    },
    /// A write failed; refused for a moment, then tried again.
    Trouble {
        /// What failed.
        reason: Arc<str>,
    },
    /// An fsync failed: nothing is kept any more until the server is started again.
    Failed {
        /// What failed.
        reason: Arc<str>,
    },
}

/// The spool in numbers.
#[derive(Clone, Debug)]
pub struct SpoolStatus {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes of messages and outcomes that are still needed.
    pub live_bytes: u64,
    /// How many segments.
    pub segments: u64,
    /// Messages that aren't finished.
    pub messages: u64,
    /// Bytes free on the file system when it was looked at last.
    pub free_bytes: u64,
    /// Whether it takes messages.
    pub state: SpoolState,
    /// `fdatasync` calls.
    pub commits: u64,
    /// Records that these made durable.
    pub synced_records: u64,
    /// Bytes waiting to be written.
    pub pending_bytes: u64,
    /// Segments copied forward since the start.
    pub compacted: u64,
    /// Damaged records found since the start.
    pub damaged: u64,
}

/// Where the content of a message lies at the moment.
#[derive(Clone, Debug)]
pub struct BodyLocation {
    /// The segment, open for reading. It stays readable while this lives, wherever the message
    /// moves to.
    pub file: Arc<File>,
    /// Offset of the first octet.
    pub offset: u64,
    /// Octets.
    pub len: u32,
    crc: u32,
}

impl BodyLocation {
    /// True if `body` is what was written.
    pub fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.len as usize && crc32c::crc32c(body) == self.crc
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) live: AtomicU64,
    pub(super) segments: AtomicU64,
    pub(super) free: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) synced: AtomicU64,
    pub(super) compacted: AtomicU64,
    pub(super) damaged: AtomicU64,
}

/// Files open for reading, the least recently used closed first.
#[derive(Default)]
struct OpenFiles {
    files: Vec<(u32, Arc<File>)>,
}

/// What all threads of one spool share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) queue: Mutex<Queue>,
    pub(super) writer_wake: Condvar,
    pub(super) syncer_wake: Condvar,
    pub(super) index: Index,
    pub(super) salts: Mutex<HashMap<u32, u64>>,
    open_files: Mutex<OpenFiles>,
    pub(super) sinks: Mutex<Vec<Option<Box<dyn CommitSink>>>>,
    state: Mutex<SpoolState>,
    /// States since the last [`Spool::state_changes`], oldest first.
    changes: Mutex<VecDeque<SpoolState>>,
    /// What was found since the last [`Spool::new_damage`], oldest first.
    damage: Mutex<VecDeque<Damage>>,
    /// Held while a record is copied to `corrupt/`: the reclaimer and several readers may come upon
    /// the same one at a time.
    setting_aside: Mutex<()>,
    accepting: AtomicBool,
    failed: AtomicBool,
    next_id: AtomicU64,
    pub(super) counters: Counters,
    /// Held for as long as the spool is open.
    lock_file: Mutex<Option<File>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push_bounded<T>(to: &Mutex<VecDeque<T>>, new: T) {
    let mut list = lock(to);
    if list.len() >= UNTOLD_MAX {
        list.pop_front();
    }
    list.push_back(new);
}

impl Shared {
    pub(super) fn segments_dir(&self) -> PathBuf {
        self.dir.join("segments")
    }

    pub(super) fn state(&self) -> SpoolState {
        lock(&self.state).clone()
    }

    pub(super) fn failed(&self) -> Option<Arc<str>> {
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        match self.state() {
            SpoolState::Failed { reason } => Some(reason),
            _ => None,
        }
    }

    /// Changes the state; `Failed` is final. Logs what an operator has to know.
    pub(super) fn set_state(&self, new: SpoolState) {
        let mut state = lock(&self.state);
        if matches!(*state, SpoolState::Failed { .. }) || *state == new {
            return;
        }
        match &new {
            SpoolState::Open => tracing::info!("the spool takes messages again"),
            SpoolState::NearlyFull { reason } => {
                tracing::warn!(%reason, "the spool is nearly full: messages are refused")
            }
            SpoolState::Trouble { reason } => {
                tracing::error!(%reason, "writing to the spool failed: messages are refused for a moment")
            }
            SpoolState::Failed { reason } => {
                tracing::error!(%reason, "the spool has failed: nothing is accepted until the server is started again")
            }
        }
        self.accepting
            .store(new == SpoolState::Open, Ordering::Release);
        self.failed
            .store(matches!(new, SpoolState::Failed { .. }), Ordering::Release);
        let another = std::mem::discriminant(&*state) != std::mem::discriminant(&new);
        *state = new.clone();
        if another {
            push_bounded(&self.changes, new);
        }
    }

    pub(super) fn ids_below(&self) -> u64 {
        self.next_id
            .load(Ordering::Relaxed)
            .saturating_add(IDS_BLOCK)
    }

    /// A segment, open for reading.
    fn open_segment(&self, number: u32) -> io::Result<Arc<File>> {
        let mut open = lock(&self.open_files);
        if let Some(i) = open.files.iter().position(|(n, _)| *n == number) {
            let entry = open.files.remove(i);
            let file = entry.1.clone();
            open.files.push(entry);
            return Ok(file);
        }
        let salt = lock(&self.salts)
            .get(&number)
            .copied()
            .ok_or(io::ErrorKind::NotFound)?;
        let file = Arc::new(File::open(
            SegmentName { number, salt }.path(&self.segments_dir()),
        )?);
        if open.files.len() >= self.options.open_files.max(1) {
            open.files.remove(0);
        }
        open.files.push((number, file.clone()));
        Ok(file)
    }

    pub(super) fn forget_segment(&self, number: u32) {
        lock(&self.salts).remove(&number);
        lock(&self.open_files).files.retain(|(n, _)| *n != number);
    }

    /// Where a message lies, and the file.
    fn locate(&self, id: u64) -> Result<(Place, Arc<File>), ReadError> {
        // A segment may go away between the two steps; then the message is elsewhere by now.
        let mut last = None;
        for _ in 0..16 {
            let place = self.index.place(id).ok_or(ReadError::Unknown)?;
            match self.open_segment(place.segment) {
                Ok(file) => return Ok((place, file)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => last = Some(e),
                Err(e) => return Err(e.into()),
            }
        }
        Err(last.map_or(ReadError::Unknown, ReadError::Io))
    }

    /// Copies the damaged record of a message to `corrupt/`, and tells of it unless it is there
    /// already.
    pub(super) fn set_aside(&self, file: &File, segment: u32, from: u64, to: u64, id: u64) {
        let _alone = lock(&self.setting_aside);
        let kept = recover::keep(
            &self.dir,
            self.options.corrupt_bytes,
            file,
            segment,
            from,
            to,
        );
        let set_aside = match kept {
            Ok((_, false)) => return,
            Ok((path, true)) => Some(path),
            Err(error) => {
                tracing::error!(%error, segment, from, to, "damaged bytes couldn't be copied to corrupt/");
                None
            }
        };
        let salt = lock(&self.salts).get(&segment).copied().unwrap_or_default();
        let number = segment;
        let damage = Damage {
            path: SegmentName { number, salt }.path(&self.segments_dir()),
            from,
            to,
            kind: DamageKind::Corrupt,
            id: Some(id),
            set_aside,
        };
        tracing::error!("{damage}");
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        push_bounded(&self.damage, damage);
    }
}

/// Opens spools.
#[derive(Debug)]
pub struct Store;

impl Store {
    /// Opens the spool in the folder `dir`, which is made if it isn't there, and reads what is in
    /// it. Envelopes and outcomes are read; bodies only behind the last known sync of the newest
    /// segments, where a power failure may have left holes.
    ///
    /// # Errors
    /// The spool is in use, of a later version, or the system refuses. Damage is no error.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<(Spool, Recovery), SpoolError> {
        let dir = dir.as_ref();
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64);
        let Opened {
            shared,
            mut writer,
            reclaimer,
            recovery,
        } = Opened::new(dir, options, Instant::now(), now_ms)?;
        writer.nap = |_| std::thread::sleep(Duration::from_millis(1));
        let syncer = Syncer::new(shared.clone());
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let guard = FailOnPanic(shared.clone());
            let run = move || {
                let _guard = guard;
                run();
            };
            std::thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(SpoolError::io(dir))
        };
        let threads = vec![
            spawn("spool-write", Box::new(move || writer.run()))?,
            spawn("spool-reclaim", Box::new(move || reclaimer.run()))?,
            spawn("spool-sync", Box::new(move || syncer.run()))?,
        ];
        Ok((Spool::new(shared, threads), recovery))
    }
}

/// A spool that was read, before anything drives it. Until it has a syncer, its writer syncs itself
/// what it has to wait for.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    pub(super) reclaimer: Reclaimer,
    pub(super) recovery: Recovery,
}

impl Opened {
    /// See [`Store::open`].
    pub(super) fn new(
        dir: &Path,
        options: Options,
        now: Instant,
        now_ms: u64,
    ) -> Result<Self, SpoolError> {
        if !(64 << 10..=16 << 30).contains(&options.segment_bytes) {
            return Err(SpoolError::Option(
                "segment_bytes must lie between 64 kB and 16 GiB",
            ));
        }
        // Each folder that gets a name in it: without a sync, a power failure takes the name away.
        let mut named: Vec<&Path> = Vec::new();
        for folder in dir.ancestors() {
            let above = folder.parent().filter(|p| !p.as_os_str().is_empty());
            named.extend(above);
            if above.is_none_or(Path::exists) {
                break;
            }
        }
        named.reverse();
        named.push(dir);
        for folder in [dir, &dir.join("segments"), &dir.join("corrupt")] {
            fs::create_dir_all(folder).map_err(SpoolError::io(folder))?;
        }
        let lock_file = take_lock(dir)?;
        for folder in named {
            options
                .disk
                .sync_dir(folder)
                .map_err(SpoolError::io(folder))?;
        }

        let mut found = recover::scan(dir, &options)?;
        let shared = Arc::new(Shared {
            dir: dir.into(),
            queue: Mutex::default(),
            writer_wake: Condvar::new(),
            syncer_wake: Condvar::new(),
            index: std::mem::take(&mut found.index),
            salts: Mutex::new(
                found
                    .ledger
                    .segments
                    .values()
                    .map(|a| (a.name.number, a.name.salt))
                    .collect(),
            ),
            open_files: Mutex::default(),
            sinks: Mutex::default(),
            state: Mutex::new(SpoolState::Open),
            changes: Mutex::default(),
            damage: Mutex::default(),
            setting_aside: Mutex::default(),
            accepting: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            next_id: AtomicU64::new(found.ids_below.max(now_ms << 20)),
            counters: Counters::default(),
            lock_file: Mutex::new(Some(lock_file)),
            options,
        });
        shared
            .counters
            .damaged
            .store(found.recovery.warnings.len() as u64, Ordering::Relaxed);

        let (reclaimer, jobs) = Reclaimer::new(shared.clone());
        let mut writer = Writer::open(
            shared.clone(),
            found.ledger,
            found.next_segment,
            found.next_seq,
            jobs,
            now,
        )?;
        writer.finish_recovered(found.finished);
        Ok(Self {
            shared,
            writer,
            reclaimer,
            recovery: found.recovery,
        })
    }
}

/// A bug in one of the threads must not look like an idle spool.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_state(SpoolState::Failed {
                reason: "a thread of the spool panicked".into(),
            });
        }
    }
}

/// Takes `lock`, or names who has it.
fn take_lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(SpoolError::io(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(SpoolError::Locked {
                dir: dir.into(),
                pid: text.trim().parse().unwrap_or(0),
            });
        }
        Err(TryLockError::Error(error)) => return Err(SpoolError::Io { path, error }),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    // On a full disk the pid can't be told, but the lock holds.
    if let Err(error) = write(&mut file) {
        tracing::warn!(%error, path = %path.display(), "the pid couldn't be written to the lock file");
    }
    Ok(file)
}

struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Handle {
    fn close(&self) {
        lock(&self.shared.queue).closed = true;
        self.shared.writer_wake.notify_all();
        for thread in lock(&self.threads).drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(thread = name, "a thread of the spool panicked");
            }
        }
        // Dropped outside of the lock: a sink may own anything.
        let sinks = std::mem::take(&mut *lock(&self.shared.sinks));
        drop(sinks);
        if let Some(file) = lock(&self.shared.lock_file).take() {
            // A process that is just being forked may hold the descriptor a little longer.
            let _ = file.unlock();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// A handle to an open spool; clones are the same spool. See the [module](super) for the order
/// of calls. A [`CommitSink`] must not own one.
#[derive(Clone)]
pub struct Spool(Arc<Handle>);

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spool").field(&self.0.shared.dir).finish()
    }
}

impl Spool {
    pub(super) fn new(shared: Arc<Shared>, threads: Vec<JoinHandle<()>>) -> Self {
        let threads = Mutex::new(threads);
        Self(Arc::new(Handle { shared, threads }))
    }

    /// A new message id: never given before by this spool, and larger than all before it.
    pub fn next_id(&self) -> u64 {
        self.0.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a message would be taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn accepting(&self) -> Result<(), RefusedWhy> {
        let shared = &self.0.shared;
        if shared.accepting.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(RefusedWhy::of(&shared.state()))
        }
    }

    /// Appends a message. The `shard`'s sink hears of `token` when it is durable, or that it
    /// isn't.
    ///
    /// # Errors
    /// [`Refused`], with the values given back; the sink then hears nothing.
    pub fn append_message(
        &self,
        shard: u16,
        token: u64,
        envelope: Envelope,
        body: Vec<Bytes>,
    ) -> Result<(), Refused> {
        self.append(Batch::new().message(envelope, body), Some((shard, token)))
    }

    /// Appends what became of deliveries of the message `id`. With `durable`, that shard's sink
    /// hears of the token when they are synced.
    ///
    /// # Errors
    /// [`Refused`]: keep the batch and append it again in a moment if it was
    /// [`RefusedWhy::Busy`].
    pub fn append_outcomes(
        &self,
        id: u64,
        outcomes: &[Outcome],
        durable: Option<(u16, u64)>,
    ) -> Result<(), Refused> {
        self.append(Batch::new().outcomes(id, outcomes), durable)
    }

    /// Ends the message `id`: all its deliveries have ended.
    ///
    /// # Errors
    /// As [`append_outcomes`](Self::append_outcomes).
    pub fn finish(&self, id: u64) -> Result<(), Refused> {
        self.append(Batch::new().finish(id), None)
    }

    /// Appends a batch: its records are kept in order, and after a crash all of them count or
    /// none.
    ///
    /// # Errors
    /// As [`append_message`](Self::append_message).
    pub fn append(&self, batch: Batch, durable: Option<(u16, u64)>) -> Result<(), Refused> {
        let shared = &self.0.shared;
        if batch.refusable() && !shared.accepting.load(Ordering::Acquire) {
            return Err(Refused {
                why: RefusedWhy::of(&shared.state()),
                batch,
            });
        }
        if let Some(reason) = shared.failed() {
            return Err(Refused {
                why: RefusedWhy::Failed(reason),
                batch,
            });
        }
        shared.push(batch, durable)
    }

    /// Where completions of the shard's appends are told. Replaces an earlier sink.
    pub fn register_sink(&self, shard: u16, sink: Box<dyn CommitSink>) {
        let mut sinks = lock(&self.0.shared.sinks);
        let shard = usize::from(shard);
        if sinks.len() <= shard {
            sinks.resize_with(shard + 1, || None);
        }
        sinks[shard] = Some(sink);
    }

    /// Where the content of the message lies now, for a read on a ring; check it with
    /// [`BodyLocation::matches`]. Opens a file, unless it is open already.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn locate_body(&self, id: u64) -> Result<BodyLocation, ReadError> {
        let (place, file) = self.0.shared.locate(id)?;
        Ok(BodyLocation {
            file,
            offset: place.body_at(),
            len: place.body_len,
            crc: place.body_crc,
        })
    }

    /// The content of the message. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_body(&self, id: u64) -> Result<Bytes, ReadError> {
        let (place, file) = self.0.shared.locate(id)?;
        let body = read_exact(&file, place.body_at(), place.body_len as usize)?;
        if crc32c::crc32c(&body) != place.body_crc {
            return Err(self.damaged(id, place, &file));
        }
        Ok(body.into())
    }

    /// The envelope of the message, as it was appended. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_envelope(&self, id: u64) -> Result<Envelope, ReadError> {
        let (place, file) = self.0.shared.locate(id)?;
        let head = read_exact(
            &file,
            place.body_at() - u64::from(place.head_len),
            place.head_len as usize,
        )?;
        match Envelope::from_bytes(&head) {
            Ok(envelope) if envelope.id() == id => Ok(envelope),
            _ => Err(self.damaged(id, place, &file)),
        }
    }

    fn damaged(&self, id: u64, place: Place, file: &File) -> ReadError {
        let shared = &self.0.shared;
        let to = place.body_at() + u64::from(place.body_len);
        shared.set_aside(file, place.segment, place.at(), to, id);
        ReadError::Corrupt
    }

    /// The states that it has gone through since this was asked last, oldest first: also those that
    /// lasted for a moment only. Another reason for the same state is no change.
    pub fn state_changes(&self) -> Vec<SpoolState> {
        lock(&self.0.shared.changes).drain(..).collect()
    }

    /// The damage that was found since this was asked last, oldest first; what was found when it was
    /// opened is in [`Recovery::warnings`]. Already logged.
    pub fn new_damage(&self) -> Vec<Damage> {
        lock(&self.0.shared.damage).drain(..).collect()
    }

    /// The spool in numbers.
    pub fn status(&self) -> SpoolStatus {
        let shared = &self.0.shared;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &shared.counters;
        SpoolStatus {
            bytes: get(&counters.bytes),
            live_bytes: get(&counters.live),
            segments: get(&counters.segments),
            messages: shared.index.len() as u64,
            free_bytes: get(&counters.free),
            state: shared.state(),
            commits: get(&counters.commits),
            synced_records: get(&counters.synced),
            pending_bytes: lock(&shared.queue).pending_bytes() as u64,
            compacted: get(&counters.compacted),
            damaged: get(&counters.damaged),
        }
    }

    /// Writes and syncs everything that is pending, tells the sinks, and closes the files.
    /// Appends after this are refused. Blocks.
    pub fn close(&self) {
        self.0.close();
    }
}
