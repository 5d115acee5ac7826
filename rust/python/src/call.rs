//! Runs the core's long calls: off the GIL, on their own threads, stopped by Ctrl-C, and never letting a panic out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use tso_core::Error;
use tso_core::run::{Stop, check_threads, watched};

use crate::error::{raise, to_py};

/// How often a waiting call lets Python look for signals.
const PULSE: Duration = Duration::from_millis(100);

type Outcome<T> = thread::Result<Result<T, Error>>;

/// The result of `work`, which runs on `threads` threads while this one waits and watches for Ctrl-C.
pub fn call<T: Send>(
    py: Python<'_>,
    threads: Option<i64>,
    work: impl FnOnce(&Stop) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let threads = threads.map(|threads| size("threads", threads)).transpose()?;
    let stop = &Stop::default();
    let (sender, receiver) = sync_channel(1);
    let job = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| work(stop)));
        // The receiver waits below until this message comes.
        sender.send(outcome).ok();
    };
    watched(threads, job, || wait(py, receiver, stop)).map_err(to_py)?
}

/// The result of `work`, which is over in no time and starts no threads, on this thread.
pub fn call_here<T: Send>(
    py: Python<'_>,
    threads: Option<i64>,
    work: impl FnOnce(&Stop) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let threads = threads.map(|threads| size("threads", threads)).transpose()?;
    check_threads(threads).map_err(to_py)?;
    finish(py.detach(|| catch_unwind(AssertUnwindSafe(|| work(&Stop::default())))))
}

fn wait<T: Send>(py: Python<'_>, mut receiver: Receiver<Outcome<T>>, stop: &Stop) -> PyResult<T> {
    let mut signal = None;
    loop {
        // The receiver goes in and comes back because only what is moved may cross without the GIL.
        let (message, back) = py.detach(move || (receiver.recv_timeout(PULSE), receiver));
        receiver = back;
        match message {
            Ok(outcome) => return signal.map_or_else(|| finish(outcome), Err),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = py.check_signals() {
                    stop.request();
                    signal = Some(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(to_py(Error::Internal("a call ended without a result".into())));
            }
        }
    }
}

fn finish<T>(outcome: Outcome<T>) -> PyResult<T> {
    match outcome {
        Ok(result) => result.map_err(to_py),
        Err(panic) => {
            let text = panic_text(panic.as_ref());
            Err(raise(
                "InternalError",
                &format!("a fault in tso itself, please report it: {text}"),
            ))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// A count that Python gave, refused with its name where it is negative.
pub fn size(name: &str, value: i64) -> PyResult<usize> {
    usize::try_from(value).map_err(|_| to_py(Error::Invalid(format!("{name} has to be at least 0, got {value}"))))
}

/// Panics inside a call, so that a test can see what becomes of it.
#[pyfunction]
#[expect(clippy::panic, reason = "its purpose")]
pub fn _panic(py: Python<'_>, message: String) -> PyResult<()> {
    call(py, Some(1), move |_| std::panic::panic_any(message))
}
