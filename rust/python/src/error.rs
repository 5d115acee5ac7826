//! The one conversion from the core's errors to Python's: every kind has its class in `tso.errors`.

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use tso_core::Error;

/// The Python exception for an error of the core.
pub fn to_py(err: Error) -> PyErr {
    let class = match &err {
        Error::Invalid(_) => "DataError",
        Error::Locked { .. } => "StoreLocked",
        Error::Version { .. } => "StoreVersionError",
        Error::Damaged { .. } | Error::BadIndex { .. } => "StoreDamaged",
        Error::Conflict(_) => "StoreConflict",
        Error::DiskFull { .. } => "StoreFull",
        Error::Sqlite(_) | Error::Refused { .. } => "StoreError",
        Error::Internal(_) => "InternalError",
        // A call that a signal stopped raises what the signal's handler raised; this is for the rest.
        Error::Stopped => return PyKeyboardInterrupt::new_err(()),
        // The operating system's errors keep the class that Python gives their kind.
        Error::Io(io) => {
            return match io.raw_os_error() {
                Some(code) => PyOSError::new_err((code, io.to_string())),
                // One that was given a better message: the class by its kind.
                None => PyErr::from(std::io::Error::new(io.kind(), io.to_string())),
            };
        }
    };
    raise(class, &err.to_string())
}

/// An instance of `tso.errors.<class>`.
pub fn raise(class: &str, message: &str) -> PyErr {
    Python::attach(|py| {
        let made = py
            .import("tso.errors")
            .and_then(|module| module.getattr(class))
            .and_then(|class| class.call1((message,)));
        match made {
            Ok(value) => PyErr::from_value(value),
            Err(_) => PyRuntimeError::new_err(message.to_owned()),
        }
    })
}
