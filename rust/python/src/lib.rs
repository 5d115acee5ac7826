//! The Python face of `tso-core`: converts, releases the GIL, and does nothing else.

use pyo3::prelude::*;

#[pymodule]
fn _core(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
