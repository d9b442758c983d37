//! The queue, the thread that writes, and the thread that tends the files.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast};

use super::event::{Event, EventKind, Time};
use super::files;

/// How long a shard waits for room at most, milliseconds.
pub const EVENT_BLOCK_MS: u64 = 2000;
/// Events are gathered for so long before they are written, milliseconds.
pub const GATHER_MS: u64 = 1;
/// First pause after a failed write, milliseconds.
pub const RETRY_MS_MIN: u64 = 100;
/// Longest pause after failed writes, milliseconds.
pub const RETRY_MS_MAX: u64 = 5000;
/// How long [`EventLog::close`] tries to write what is queued, milliseconds.
pub const CLOSE_MS: u64 = 5000;
/// How often the file is synced while events come, milliseconds.
const SYNC_MS: u64 = 1000;
/// How much is written at once, bytes.
const WRITE_BYTES: usize = 1 << 20;
/// Events that a slow subscriber may lag behind.
const TAP_EVENTS: usize = 4096;

/// Settings of the event log.
#[derive(Clone, Debug)]
pub struct Options {
    /// A file of this size is closed and the next one begun, bytes. Default 256 MiB.
    pub rotate_bytes: u64,
    /// And one of this age. Default a day.
    pub rotate_every: Duration,
    /// Closed files are compressed. Default yes.
    pub compress: bool,
    /// Most closed files. Default: no bound.
    pub keep_files: usize,
    /// Most bytes of closed files. Default 20 GiB.
    pub keep_bytes: u64,
    /// Closed files are deleted when their last event is so old. Default 30 days.
    pub keep: Option<Duration>,
    /// Most events in memory. Default 65,536.
    pub queue_events: usize,
    /// Most bytes of events in memory. Default 64 MiB.
    pub queue_bytes: usize,
    /// How long [`EventSink::send`] waits. Default [`EVENT_BLOCK_MS`].
    pub block: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rotate_bytes: 256 << 20,
            rotate_every: Duration::from_secs(86_400),
            compress: true,
            keep_files: usize::MAX,
            keep_bytes: 20 << 30,
            keep: Some(Duration::from_secs(30 * 86_400)),
            queue_events: 65_536,
            queue_bytes: 64 << 20,
            block: Duration::from_millis(EVENT_BLOCK_MS),
        }
    }
}

/// The event log in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventStatus {
    /// Events in memory, waiting for the disk.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Events written.
    pub written: u64,
    /// Events dropped.
    pub lost: u64,
    /// What is wrong with the disk; `None`: nothing.
    pub trouble: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    count: u64,
    since: Time,
    until: Time,
}

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    /// Of `events` and of what the writer holds.
    count: usize,
    bytes: usize,
    lost: Option<Lost>,
    /// Events taken so far, and of these, how many the writer is done with: they are synced, or can't
    /// be.
    accepted: u64,
    settled: u64,
    sync_wanted: bool,
    writer_sleeps: bool,
    closed: Option<Instant>,
    trouble: Option<Arc<str>>,
}

struct Shared {
    dir: PathBuf,
    options: Options,
    queue: Mutex<Queue>,
    writer_wake: Condvar,
    /// Woken when there is room again, for tasks and for threads.
    room: Notify,
    room_wake: Condvar,
    tap: broadcast::Sender<Arc<Event>>,
    current: Mutex<Option<PathBuf>>,
    written: AtomicU64,
    lost: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Moves as many events as there is room for from the front of `events` into the queue.
    fn accept(&self, events: &mut Vec<Event>) -> bool {
        if events.is_empty() {
            return true;
        }
        let mut queue = lock(&self.queue);
        let mut fits = 0;
        if queue.closed.is_none() {
            for event in events.iter() {
                let weight = event.weight();
                // The first one always fits into an empty queue, however heavy it is.
                let full = queue.count >= self.options.queue_events
                    || queue.bytes + weight > self.options.queue_bytes;
                if full && queue.count > 0 {
                    break;
                }
                queue.count += 1;
                queue.bytes += weight;
                fits += 1;
            }
        }
        queue.accepted += fits as u64;
        queue.events.extend(events.drain(..fits));
        let wake = fits > 0 && std::mem::take(&mut queue.writer_sleeps);
        drop(queue);
        if wake {
            self.writer_wake.notify_one();
        }
        events.is_empty()
    }

    fn lose(&self, events: &mut Vec<Event>) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return;
        };
        let count = events.len() as u64;
        let mut queue = lock(&self.queue);
        let trouble = queue.trouble.clone();
        let lost = queue.lost.get_or_insert(Lost {
            count: 0,
            since: first.time,
            until: last.time,
        });
        lost.count += count;
        lost.until = last.time;
        let total = lost.count;
        let wake = std::mem::take(&mut queue.writer_sleeps);
        drop(queue);
        if wake {
            self.writer_wake.notify_one();
        }
        self.lost.fetch_add(count, Ordering::Relaxed);
        let trouble = trouble.as_deref().unwrap_or("the disk is too slow");
        tracing::error!(
            count,
            total,
            trouble,
            "events were dropped: they couldn't be written in time"
        );
        events.clear();
    }
}

/// Where shards leave their events. Clones feed the same log.
#[derive(Clone)]
pub struct EventSink(Arc<Shared>);

impl std::fmt::Debug for EventSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EventSink").field(&self.0.dir).finish()
    }
}

impl EventSink {
    /// Takes as many events from the front of `events` as there is room for, without waiting.
    /// True if none is left. One lock and at most one wake-up, however many there are.
    pub fn try_send(&self, events: &mut Vec<Event>) -> bool {
        self.0.accept(events)
    }

    /// As [`try_send`](Self::try_send), but waits for room, [`Options::block`] at most; what has
    /// found none by then is dropped, counted and reported. `events` is empty afterwards.
    ///
    /// Needs a tokio runtime with its timer.
    pub async fn send(&self, events: &mut Vec<Event>) {
        if self.0.accept(events) {
            return;
        }
        let until = tokio::time::Instant::now() + self.0.options.block;
        loop {
            // First in line, then looking: a wake-up in between isn't missed.
            let room = self.0.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.0.accept(events) {
                return;
            }
            let closed = lock(&self.0.queue).closed.is_some();
            if closed || tokio::time::timeout_at(until, room).await.is_err() {
                if !self.0.accept(events) {
                    self.0.lose(events);
                }
                return;
            }
        }
    }

    /// [`send`](Self::send) for threads without a runtime.
    pub fn send_blocking(&self, events: &mut Vec<Event>) {
        let until = Instant::now() + self.0.options.block;
        while !self.0.accept(events) {
            let now = Instant::now();
            let queue = lock(&self.0.queue);
            if now >= until || queue.closed.is_some() {
                drop(queue);
                return self.0.lose(events);
            }
            // Room may have come since; then the next turn finds it after a short wait.
            let wait = (until - now).min(Duration::from_millis(50));
            drop(
                self.0
                    .room_wake
                    .wait_timeout(queue, wait)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    /// Waits until the events that were taken so far are synced, `limit` at most.
    pub fn settle(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut queue = lock(&self.0.queue);
        let target = queue.accepted;
        while queue.settled < target && queue.closed.is_none() {
            let now = Instant::now();
            if now >= until {
                return;
            }
            queue.sync_wanted = true;
            queue.writer_sleeps = false;
            self.0.writer_wake.notify_one();
            let waited = self.0.room_wake.wait_timeout(queue, until - now);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sees every event from now on, as it is about to be written. One who is too slow misses
    /// some and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.tap.subscribe()
    }

    /// The log in numbers.
    pub fn status(&self) -> EventStatus {
        let queue = lock(&self.0.queue);
        EventStatus {
            queued: queue.count as u64,
            queued_bytes: queue.bytes as u64,
            written: self.0.written.load(Ordering::Relaxed),
            lost: self.0.lost.load(Ordering::Relaxed),
            trouble: queue.trouble.clone(),
        }
    }
}

/// The log itself: owns its threads. Dropping it closes it.
pub struct EventLog {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    tender: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EventLog").field(&self.shared.dir).finish()
    }
}

impl EventLog {
    /// Opens the folder, which is made if it isn't there, mends what a crash has left, and starts
    /// a new file with the first event.
    ///
    /// # Errors
    /// The folder can't be made, read or written.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> io::Result<Self> {
        let dir = dir.as_ref().to_path_buf();
        std::fs::create_dir_all(&dir)?;
        files::repair(&dir)?;
        let shared = Arc::new(Shared {
            dir,
            options,
            queue: Mutex::default(),
            writer_wake: Condvar::new(),
            room: Notify::new(),
            room_wake: Condvar::new(),
            tap: broadcast::channel(TAP_EVENTS).0,
            current: Mutex::new(None),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let (kick, kicked) = sync_channel(1);
        let _ = kick.try_send(());
        let tending = shared.clone();
        let tender = std::thread::Builder::new()
            .name("events-tend".into())
            .spawn(move || tend(&tending, &kicked))?;
        let writing = Writer {
            shared: shared.clone(),
            kick,
            file: None,
            buffer: Vec::new(),
            batch: (0, 0),
            retry: RETRY_MS_MIN,
            dirty: None,
            taken: 0,
        };
        let writer = std::thread::Builder::new()
            .name("events-write".into())
            .spawn(move || writing.run())?;
        Ok(Self {
            shared,
            writer: Some(writer),
            tender: Some(tender),
        })
    }

    /// Where to leave events.
    pub fn sink(&self) -> EventSink {
        EventSink(self.shared.clone())
    }

    /// Writes and syncs what is queued, within [`CLOSE_MS`] if the disk is in trouble, and ends
    /// the threads. Later events are refused.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        lock(&self.shared.queue)
            .closed
            .get_or_insert_with(Instant::now);
        self.shared.writer_wake.notify_all();
        for thread in [self.writer.take(), self.tender.take()]
            .into_iter()
            .flatten()
        {
            if thread.join().is_err() {
                tracing::error!("a thread of the event log panicked");
            }
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.end();
    }
}

fn tend(shared: &Shared, kicked: &Receiver<()>) {
    while kicked.recv().is_ok() {
        files::tend(&shared.dir, &shared.options, || {
            // Held while the folder is read: a file that is begun meanwhile is not among the closed ones.
            let current = lock(&shared.current);
            files::closed(&shared.dir, current.as_deref())
        });
    }
}

/// The file that is written.
struct Current {
    file: File,
    path: PathBuf,
    len: u64,
    since: Instant,
}

struct Writer {
    shared: Arc<Shared>,
    kick: SyncSender<()>,
    file: Option<Current>,
    /// Lines that aren't written yet; whole lines only.
    buffer: Vec<u8>,
    /// Events and bytes of the queue's bound that `buffer` stands for.
    batch: (usize, usize),
    retry: u64,
    dirty: Option<Instant>,
    /// Events that came out of the queue so far.
    taken: u64,
}

impl Writer {
    fn run(mut self) {
        loop {
            let (events, lost, closed, sync) = self.take();
            self.taken += events.len() as u64;
            let nothing = events.is_empty() && lost.is_none();
            let taken = events.len();
            let mut given_up = 0;
            let mut weight = 0;
            let listeners = self.shared.tap.receiver_count() > 0;
            for event in events {
                weight += event.weight();
                event.write_line(&mut self.buffer);
                self.batch.0 += 1;
                if listeners {
                    let _ = self.shared.tap.send(Arc::new(event));
                }
                if self.buffer.len() >= WRITE_BYTES {
                    self.batch.1 += std::mem::take(&mut weight);
                    given_up += self.write();
                }
            }
            self.batch.1 += weight;
            if let Some(Lost {
                count,
                since,
                until,
            }) = lost
            {
                Event::now(EventKind::Lost {
                    count,
                    since,
                    until,
                })
                .write_line(&mut self.buffer);
            }
            given_up += self.write();
            if given_up > 0 {
                tracing::error!(
                    count = given_up,
                    of = taken,
                    "events couldn't be written before the end"
                );
                self.shared
                    .lost
                    .fetch_add(given_up as u64, Ordering::Relaxed);
            }
            self.sync(closed || sync);
            if closed && nothing {
                break;
            }
        }
        if let Some(current) = self.file.take()
            && let Err(error) = current.file.sync_data()
        {
            tracing::error!(%error, path = %current.path.display(), "syncing the events failed");
        }
    }

    /// Sleeps until there are events, and lets some more come.
    fn take(&self) -> (Vec<Event>, Option<Lost>, bool, bool) {
        let shared = &self.shared;
        let wait = |queue: MutexGuard<'_, Queue>, time| {
            drop(
                shared
                    .writer_wake
                    .wait_timeout(queue, time)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        };
        let mut queue = lock(&shared.queue);
        let idle = queue.events.is_empty() && queue.lost.is_none() && !queue.sync_wanted;
        if idle && queue.closed.is_none() {
            queue.writer_sleeps = true;
            // Wakes up now and then to sync and to see whether the file is old.
            wait(queue, Duration::from_millis(SYNC_MS));
            queue = lock(&shared.queue);
        }
        queue.writer_sleeps = false;
        if queue.closed.is_none() && !queue.events.is_empty() {
            wait(queue, Duration::from_millis(GATHER_MS));
            queue = lock(&shared.queue);
        }
        (
            std::mem::take(&mut queue.events),
            queue.lost.take(),
            queue.closed.is_some(),
            std::mem::take(&mut queue.sync_wanted),
        )
    }

    /// Writes the buffer, however long it takes, except at the end: then the number of events
    /// that had to be given up.
    fn write(&mut self) -> usize {
        while !self.buffer.is_empty() {
            let Err(error) = self.write_once() else {
                self.healthy();
                break;
            };
            self.trouble(&error);
            let shared = self.shared.clone();
            let queue = lock(&shared.queue);
            if queue
                .closed
                .is_some_and(|since| since.elapsed() > Duration::from_millis(CLOSE_MS))
            {
                drop(queue);
                self.buffer.clear();
                return std::mem::take(&mut self.batch).0;
            }
            let pause = Duration::from_millis(self.retry);
            self.retry = (self.retry * 2).min(RETRY_MS_MAX);
            drop(
                shared
                    .writer_wake
                    .wait_timeout(queue, pause)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
        let (count, bytes) = std::mem::take(&mut self.batch);
        if count > 0 {
            self.shared
                .written
                .fetch_add(count as u64, Ordering::Relaxed);
            let mut queue = lock(&self.shared.queue);
            queue.count -= count;
            queue.bytes -= bytes;
            drop(queue);
            self.shared.room.notify_waiters();
            self.shared.room_wake.notify_all();
        }
        0
    }

    fn write_once(&mut self) -> io::Result<()> {
        let options = &self.shared.options;
        let old = |c: &Current| {
            c.len >= options.rotate_bytes || c.since.elapsed() >= options.rotate_every
        };
        if self.file.as_ref().is_some_and(old) {
            self.rotate();
        }
        let current = match &mut self.file {
            Some(current) => current,
            None => {
                let (path, file) = {
                    // The tender must not take the new file for a closed one.
                    let mut current = lock(&self.shared.current);
                    let made = files::create(&self.shared.dir, Time::now())?;
                    *current = Some(made.0.clone());
                    made
                };
                self.file.insert(Current {
                    file,
                    path,
                    len: 0,
                    since: Instant::now(),
                })
            }
        };
        let result = current.file.write_all(&self.buffer).and_then(|()| {
            // Nobody will ever read a file that has no name.
            match current.file.metadata()?.nlink() {
                0 => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the file was removed",
                )),
                _ => Ok(()),
            }
        });
        match result {
            Ok(()) => {
                current.len += self.buffer.len() as u64;
                self.buffer.clear();
                self.dirty.get_or_insert_with(Instant::now);
                Ok(())
            }
            Err(error) => {
                // Leave whole lines behind, and go on in another file.
                let _ = current.file.set_len(current.len);
                let error =
                    io::Error::new(error.kind(), format!("{}: {error}", current.path.display()));
                self.file = None;
                *lock(&self.shared.current) = None;
                Err(error)
            }
        }
    }

    fn rotate(&mut self) {
        self.dirty = None;
        if let Some(current) = self.file.take() {
            if let Err(error) = current.file.sync_data() {
                tracing::error!(%error, path = %current.path.display(), "syncing the events failed");
            }
            *lock(&self.shared.current) = None;
            let _ = self.kick.try_send(());
        }
    }

    fn sync(&mut self, at_once: bool) {
        self.sync_file(at_once);
        if self.dirty.is_none() {
            lock(&self.shared.queue).settled = self.taken;
            self.shared.room_wake.notify_all();
        }
    }

    fn sync_file(&mut self, at_once: bool) {
        let Some(current) = &self.file else {
            self.dirty = None;
            return;
        };
        if current.since.elapsed() >= self.shared.options.rotate_every && current.len > 0 {
            return self.rotate();
        }
        if self
            .dirty
            .is_some_and(|since| at_once || since.elapsed() >= Duration::from_millis(SYNC_MS))
        {
            self.dirty = None;
            if let Err(error) = current.file.sync_data() {
                tracing::error!(%error, path = %current.path.display(), "syncing the events failed");
                // What the kernel lost of it can't be known; at least go on elsewhere.
                self.rotate();
            }
        }
    }

    fn trouble(&mut self, error: &io::Error) {
        let mut queue = lock(&self.shared.queue);
        if queue.trouble.is_none() {
            tracing::error!(%error, dir = %self.shared.dir.display(), "events can't be written; they are kept in memory for a while");
        }
        queue.trouble = Some(error.to_string().into());
    }

    fn healthy(&mut self) {
        self.retry = RETRY_MS_MIN;
        if lock(&self.shared.queue).trouble.take().is_some() {
            tracing::info!(dir = %self.shared.dir.display(), "events can be written again");
        }
    }
}
