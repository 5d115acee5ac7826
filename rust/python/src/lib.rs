//! The Python face of `tso-core`: converts, releases the GIL, and does nothing else.

mod error;
mod ledger;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ledger::Ledger>()?;
    Ok(())
}
