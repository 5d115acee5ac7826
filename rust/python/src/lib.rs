//! The Python face of `tso-core`: converts, releases the GIL, and does nothing else.

mod arrays;
mod call;
mod dedup;
mod diversity;
mod error;
mod index;
mod ledger;
mod parts;
mod people;
mod plan;
mod values;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<index::DedupIndex>()?;
    module.add_class::<ledger::Ledger>()?;
    module.add_class::<plan::Plan>()?;
    module.add_function(wrap_pyfunction!(ledger::allot, module)?)?;
    module.add_function(wrap_pyfunction!(dedup::dedup_texts, module)?)?;
    module.add_function(wrap_pyfunction!(dedup::dedup_pairs, module)?)?;
    module.add_function(wrap_pyfunction!(diversity::diversity, module)?)?;
    module.add_function(wrap_pyfunction!(diversity::pair_similarity, module)?)?;
    module.add_function(wrap_pyfunction!(diversity::repetition, module)?)?;
    module.add_function(wrap_pyfunction!(diversity::novelty, module)?)?;
    module.add_function(wrap_pyfunction!(diversity::select_diverse, module)?)?;
    module.add_function(wrap_pyfunction!(diversity::pick_pairs, module)?)?;
    module.add_function(wrap_pyfunction!(parts::_bands, module)?)?;
    module.add_function(wrap_pyfunction!(parts::_hashes, module)?)?;
    module.add_function(wrap_pyfunction!(parts::_sketch, module)?)?;
    module.add_function(wrap_pyfunction!(parts::_couple, module)?)?;
    module.add_function(wrap_pyfunction!(parts::_same, module)?)?;
    module.add_function(wrap_pyfunction!(parts::_verify, module)?)?;
    module.add_function(wrap_pyfunction!(parts::_settle, module)?)?;
    module.add_function(wrap_pyfunction!(call::_panic, module)?)?;
    Ok(())
}
