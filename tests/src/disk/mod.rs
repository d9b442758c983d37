//! A disk whose power can be cut and that can be made to fail: a FUSE file system of our own, in
//! memory, on which a real server keeps its spool.
//!
//! | file | |
//! |---|---|
//! | [`tree`] | files and folders, the record of every change, and the faults |
//! | [`fuse`] | the kernel's requests, answered from the tree |
//! | [`power`] | what may be left of a recorded run after a power cut |
//!
//! Nothing is cached by the kernel: each write, `fdatasync` and change of a folder comes through as
//! it is made, and stands in the record in this order.

mod fuse;
pub mod power;
pub mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, Config, MountOption, Session};

pub use power::Image;
use tree::Tree;
pub use tree::{Fault, Op, What};

/// A mounted disk. It is unmounted when dropped.
pub struct Disk {
    tree: Arc<Mutex<Tree>>,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts an empty one at `at`, which is made; `None`, after a word on what is missing, where
    /// that is not allowed.
    ///
    /// # Panics
    /// When the folder can't be made.
    pub fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a place to mount at");
        let tree = Arc::new(Mutex::new(Tree::new()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("courser-test".into())];
        match Session::new(fuse::Served(tree.clone()), at, &config).and_then(Session::spawn) {
            Ok(session) => Some(Self {
                tree,
                at: at.to_owned(),
                session: Some(session),
            }),
            Err(error) => {
                crate::need::skip(&format!("FUSE (/dev/fuse and the right to mount): {error}"));
                None
            }
        }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Puts a mark into the record: everything before it has happened.
    pub fn note(&self, what: u64) {
        self.tree().note(what);
    }

    /// What was recorded so far.
    pub fn record(&self) -> Vec<Op> {
        self.tree().record()
    }

    /// Fails from now on as `fault` says, and no longer as it was told before.
    pub fn fail(&self, fault: Fault) {
        self.fail_all(vec![fault]);
    }

    /// As [`Disk::fail`], with several faults at a time.
    pub fn fail_all(&self, faults: Vec<Fault>) {
        self.tree().set_faults(faults);
    }

    /// Fails no longer.
    pub fn mend(&self) {
        self.tree().set_faults(Vec::new());
    }

    /// How often the faults that were set last have struck.
    pub fn struck(&self) -> u64 {
        self.tree().struck()
    }

    /// How often this was asked for so far, on paths that contain `path`.
    pub fn count(&self, what: What, path: &str) -> u64 {
        self.tree().count(what, path)
    }

    /// Replaces everything on the disk, and begins a new record.
    pub fn load(&self, image: &Image) {
        self.tree().load(image);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that still has files open here must not keep the test from ending.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        drop(self.session.take());
    }
}
