//! How much room there is, and the reserve for when there is none.

use std::fs::OpenOptions;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::store::SpoolState;
use super::writer::Writer;

/// The room on the disk is looked at after so many bytes.
const ROOM_EVERY_BYTES: u64 = 8 << 20;

impl Writer {
    /// Messages are refused above this.
    pub(super) fn message_limit(&self) -> u64 {
        let o = &self.shared.options;
        o.max_bytes - (o.reserve_bytes + o.segment_bytes).min(o.max_bytes / 4)
    }

    pub(super) fn look_at_room(&mut self) {
        self.look_at_room_for(0);
    }

    /// Looks whether there is room for `more` bytes of messages, and sets the state.
    pub(super) fn look_at_room_for(&mut self, more: u64) {
        let shared = self.shared.clone();
        let options = &shared.options;
        self.room_looked = self.now;
        if let Ok(false) = options.disk.is_linked(&self.active.file) {
            return shared.set_state(SpoolState::Failed {
                reason: format!(
                    "a file that is being written was removed from {}",
                    shared.segments_dir().display()
                )
                .into(),
            });
        }
        let room = match options.disk.room(&shared.dir) {
            Ok(room) => room,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return shared.set_state(SpoolState::Failed {
                    reason: format!("the spool's folder {} was removed", shared.dir.display())
                        .into(),
                });
            }
            Err(error) => {
                tracing::warn!(%error, dir = %shared.dir.display(), "how much room the spool has can't be found out");
                return;
            }
        };
        shared.counters.free.store(room.free, Ordering::Relaxed);
        let percent_free = room.total / 100 * u64::from(options.min_free_percent.min(100));
        let min_free = options.min_free_bytes.max(percent_free);
        let total = self.ledger.total;
        let limit = self.message_limit();
        let was_full = matches!(shared.state(), SpoolState::NearlyFull { .. });
        // Once full, a little more than the least has to be free, so that it doesn't flap.
        let slack = |bytes: u64| if was_full { bytes / 32 } else { 0 };
        if !self.reserve_held
            && self.parked.is_empty()
            && room.free > min_free.saturating_add(options.reserve_bytes)
        {
            self.take_reserve();
        }
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        let short: Option<Arc<str>> = if total + more > limit - slack(limit) {
            Some(
                format!(
                    "the spool holds {} MB and may hold {} MB",
                    mb(total),
                    mb(limit)
                )
                .into(),
            )
        } else if room.free < min_free + slack(min_free) + more {
            Some(
                format!(
                    "{} MB are free for the spool and {} MB have to stay free",
                    mb(room.free),
                    mb(min_free)
                )
                .into(),
            )
        } else if !self.reserve_held && options.reserve_bytes > 0 {
            Some("the spool's reserve can't be allocated".into())
        } else {
            None
        };
        self.room_due = ROOM_EVERY_BYTES
            .min(room.free.saturating_sub(min_free))
            .max(more);
        // When room is short, less sparse segments are worth copying.
        self.ledger.shrunk |= short.is_some();
        match short {
            Some(reason) => shared.set_state(SpoolState::NearlyFull { reason }),
            None if self.try_again.is_none() => shared.set_state(SpoolState::Open),
            None => {}
        }
    }

    pub(super) fn reserve_path(&self) -> std::path::PathBuf {
        self.shared.dir.join("reserve")
    }

    pub(super) fn take_reserve(&mut self) {
        let options = &self.shared.options;
        if options.reserve_bytes == 0 {
            self.reserve_held = true;
            return;
        }
        let path = self.reserve_path();
        let take = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            options.disk.allocate(&file, options.reserve_bytes)
        };
        match take() {
            Ok(()) => self.reserve_held = true,
            // A file system that can't allocate: go without.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(
                    "the file system of the spool can't allocate a reserve; going without"
                );
                self.reserve_held = true;
            }
            Err(error) => {
                tracing::warn!(%error, "the spool's reserve can't be allocated");
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    /// Gives the reserve up; false if it wasn't held.
    pub(super) fn release_reserve(&mut self) -> bool {
        let held = std::mem::take(&mut self.reserve_held);
        held && std::fs::remove_file(self.reserve_path()).is_ok()
    }
}
