//! One thread's io_uring runtime.

use std::future::Future;
use std::io;

/// Submission entries of one ring.
pub const RING_ENTRIES: u32 = 4096;
/// Completion entries of one ring: every session has at most two operations under way, and the
/// kernel keeps what overflows, so this is about speed, not a limit.
pub const RING_COMPLETIONS: u32 = 32_768;

/// Runs `future` on a new ring of this thread until it ends, and drops what it left behind.
///
/// # Errors
/// When the kernel refuses an io_uring (too old, forbidden by seccomp or sysctl, or out of locked
/// memory).
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    let mut uring = tokio_uring::uring_builder();
    // setup_defer_taskrun would hang tokio-uring 0.5: it waits with epoll, not with the ring.
    uring
        .setup_cqsize(RING_COMPLETIONS)
        .setup_coop_taskrun()
        .setup_single_issuer();
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES).uring_builder(&uring);
    let runtime = tokio_uring::Runtime::new(&builder)?;
    Ok(runtime.block_on(future))
}

/// Starts a task on this thread's ring.
pub fn spawn<T: Future + 'static>(task: T) -> tokio::task::JoinHandle<T::Output> {
    tokio_uring::spawn(task)
}

/// Lets other tasks and the kernel have their turn. `tokio::task::yield_now` would not: operations
/// are submitted only when the thread parks.
pub async fn breathe() {
    let _ = tokio_uring::no_op().await;
}
