//! `DedupIndex`: the index that grows, for Python (see tso/_core.pyi).

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use tso_core::dedup::Link;
use tso_core::dedup::index::{Index, IndexOptions};
use tso_core::run::Stop;
use tso_core::{Error, Result};

use crate::arrays::{Tokens, integer_bytes, integers};
use crate::call::{call, size};
use crate::dedup::{PyRows, pick, rows};

/// Open until it is closed. A panic while it changes leaves it closed, for what it holds may be half a change.
#[pyclass(module = "tso._core", frozen)]
pub struct DedupIndex(Mutex<Option<Index>>);

impl DedupIndex {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        threads: Option<i64>,
        work: impl FnOnce(&mut Index, &Stop) -> Result<T> + Send,
    ) -> PyResult<T> {
        call(py, threads, |stop| {
            let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut index = open
                .take()
                .ok_or_else(|| Error::Invalid("the index is closed; open it again".into()))?;
            let done = index.require_process().and_then(|()| work(&mut index, stop));
            *open = Some(index);
            done
        })
    }
}

#[pymethods]
impl DedupIndex {
    #[new]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        ngram: i64,
        threshold: f64,
        link: &str,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let options = IndexOptions {
            ngram: size("ngram", ngram)?,
            threshold,
            link: pick("link", link, &[("component", Link::Component), ("star", Link::Star)])?,
        };
        let index = call(py, threads, |stop| match path {
            Some(path) => Index::open(&path, options, stop),
            None => Index::in_memory(options),
        })?;
        Ok(Self(Mutex::new(Some(index))))
    }

    fn add<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        groups: Option<PyBuffer<i64>>,
        threads: Option<i64>,
    ) -> PyResult<PyRows<'py>> {
        let tokens = Tokens::import(tokens)?;
        let groups = groups.map(|groups| integers(py, &groups)).transpose()?;
        let added = self.with(py, threads, |index, stop| {
            index.add(&tokens.ragged()?, groups.as_deref(), stop)
        })?;
        rows(py, added)
    }

    fn clusters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let clusters = self.with(py, None, |index, _| Ok(index.clusters()))?;
        integer_bytes(py, clusters.into_iter())
    }

    fn rows(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, Some(1), |index, _| Ok(index.rows()))
    }

    fn bytes(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, Some(1), |index, _| Ok(index.bytes()))
    }

    /// Waits for a call that is under way in another thread.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
