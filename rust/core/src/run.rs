//! How a long call runs: on how many threads, and how it is asked to stop.

use std::sync::atomic::{AtomicBool, Ordering};

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

/// Runs `work` on a pool of `threads` threads (all cores where `None`). Results never depend on the number.
///
/// The pool belongs to the call: a pool that outlived it would hang in a process that forks afterwards.
///
/// # Errors
/// [`Error::Invalid`] for 0 threads, [`Error::Internal`] where the system gives none, and whatever `work` returns.
pub fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if threads == Some(0) {
        return Err(Error::Invalid(
            "threads has to be at least 1; leave it out to use all cores".into(),
        ));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .build()
        .map_err(|error| Error::Internal(format!("cannot start threads: {error}")))?
        .install(work)
}
