//! How a long call runs: on how many threads, and how it is asked to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::{Error, Result};

/// A flag that another thread raises to end a long call; the call looks at it a few times a second.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Asks the call to end as soon as it looks.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`Error::Stopped`] once the flag is up.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            Err(Error::Stopped)
        } else {
            Ok(())
        }
    }
}

/// More threads than any machine that this is made for has cores; a larger number is a slip of the hand.
pub const MOST_THREADS: usize = 1024;

/// Runs `work` on a pool of `threads` threads, of which no more are started than there are cores (all cores where
/// `None`). Results never depend on the number.
///
/// The pool belongs to the call: a pool that outlived it would hang in a process that forks afterwards.
///
/// # Errors
/// [`Error::Invalid`] for 0 threads or more than [`MOST_THREADS`], [`Error::Internal`] where the system gives none, and whatever `work` returns.
pub fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    pool(threads)?.install(work)
}

/// Runs `work` as [`on_threads`] does, while this thread runs `watch`; returns what `watch` does, when both have ended.
///
/// `work` must not panic.
///
/// # Errors
/// As [`on_threads`], before `work` or `watch` began.
pub fn watched<R>(threads: Option<usize>, work: impl FnOnce() + Send, watch: impl FnOnce() -> R) -> Result<R> {
    Ok(pool(threads)?.in_place_scope(|scope| {
        scope.spawn(|_| work());
        watch()
    }))
}

fn pool(threads: Option<usize>) -> Result<rayon::ThreadPool> {
    check_threads(threads)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.map_or(0, |threads| threads.min(cores)))
        .build()
        .map_err(|error| Error::Internal(format!("cannot start threads: {error}")))
}

/// # Errors
/// [`Error::Invalid`] for 0 threads or more than [`MOST_THREADS`].
pub fn check_threads(threads: Option<usize>) -> Result<()> {
    match threads.filter(|threads| !(1..=MOST_THREADS).contains(threads)) {
        None => Ok(()),
        Some(wrong) => Err(Error::Invalid(format!(
            "threads has to be from 1 to {MOST_THREADS}, got {wrong}; leave it out to use all cores"
        ))),
    }
}
