//! Compares passwords on threads of its own: one comparison takes tens of milliseconds, in which a
//! shard could do a hundred other things.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use courser_core::smtp::sasl::scram::{ClientKeys, Recipe};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::users::Meant;

/// Comparisons that may wait. Beyond it, logins are answered with "try again later": at some 25 ms
/// for each, the last would wait for longer than clients do.
pub const WAITING_MAX: usize = 512;

/// So many comparisons wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They start when the first password comes, and end when this is dropped.
pub struct Checker {
    jobs: OnceLock<SyncSender<Job>>,
}

impl Checker {
    /// Without any thread yet.
    pub(super) const fn start() -> Self {
        Self {
            jobs: OnceLock::new(),
        }
    }

    /// Whether `meant` has this password.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn has(&self, meant: Meant, password: Zeroizing<Vec<u8>>) -> Result<bool, Busy> {
        self.run(move || meant.has(&password)).await
    }

    /// Keys of SCRAM, made of a password.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn keys(
        &self,
        password: Zeroizing<Vec<u8>>,
        recipe: Recipe,
    ) -> Result<ClientKeys, Busy> {
        self.run(move || ClientKeys::derive(&password, recipe))
            .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move || drop(tell.send(work())));
        match self.jobs.get_or_init(threads).try_send(job) {
            Ok(()) => told.await.map_err(|_| Busy),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }
}

/// Half as many threads as there are processors: the others are for mail.
fn threads() -> SyncSender<Job> {
    let (jobs, waiting) = sync_channel::<Job>(WAITING_MAX);
    let waiting = Arc::new(Mutex::new(waiting));
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for n in 0..all.div_ceil(2) {
        let waiting = waiting.clone();
        let thread = std::thread::Builder::new().name(format!("passwords-{n}"));
        // Without any thread the channel is closed, and every login is told to try again.
        if let Err(error) = thread.spawn(move || work(&waiting)) {
            tracing::error!(%error, "no thread to compare passwords");
        }
    }
    jobs
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        match next {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
