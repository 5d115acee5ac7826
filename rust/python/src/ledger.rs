//! `Ledger`: the run store for Python. The work is tso-core's, done without the GIL; values are converted in `values.rs`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tso_core::Result;
use tso_core::ledger::{self as core, PlanRequest, Value};

use crate::error::{raise, to_py};
use crate::values::{to_cell, to_object, to_rows, to_values};

type PyUnit = (i64, String, i64, String);
type PyDraw = (i64, String, String, u32, u64, i64);
type PyTable<'py> = (Vec<String>, Vec<Bound<'py, PyTuple>>);

/// One run's store (see tso/_core.pyi).
#[pyclass(module = "tso._core", frozen)]
pub struct Ledger {
    /// None once closed. A panic during a transaction takes it back, so a poisoned lock hides no half-done work.
    open: Mutex<Option<core::Ledger>>,
    path: PathBuf,
}

impl Ledger {
    fn new(ledger: core::Ledger) -> Self {
        Ledger {
            path: ledger.path().to_owned(),
            open: Mutex::new(Some(ledger)),
        }
    }

    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut core::Ledger) -> Result<T> + Send) -> PyResult<T> {
        let done = py.detach(|| {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.as_mut().map(work)
        });
        match done {
            Some(result) => result.map_err(to_py),
            None => Err(raise(
                "StoreError",
                &format!("the ledger of {} is closed; open it again", self.path.display()),
            )),
        }
    }
}

#[pymethods]
impl Ledger {
    #[staticmethod]
    fn create(py: Python<'_>, path: PathBuf, meta: BTreeMap<String, String>) -> PyResult<Self> {
        py.detach(|| core::Ledger::create(&path, &meta))
            .map(Self::new)
            .map_err(to_py)
    }

    #[staticmethod]
    #[pyo3(signature = (path, *, read_only = false))]
    fn open(py: Python<'_>, path: PathBuf, read_only: bool) -> PyResult<Self> {
        py.detach(|| core::Ledger::open(&path, read_only))
            .map(Self::new)
            .map_err(to_py)
    }

    #[staticmethod]
    fn draw_seed(run_seed: u64, iteration: i64, prompt_id: &str, cell: &str, draw: u32) -> u64 {
        core::draw_seed(run_seed, iteration, prompt_id, cell, draw)
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn write(
        &self,
        py: Python<'_>,
        iteration: i64,
        stage: &str,
        unit: i64,
        info: &str,
        rows: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let tables = rows
            .iter()
            .map(|(table, rows)| to_rows(&table, &rows))
            .collect::<PyResult<Vec<_>>>()?;
        self.with(py, |ledger| ledger.write(iteration, stage, unit, info, &tables))
    }

    #[pyo3(signature = (iteration, stage, unit = 0))]
    fn is_done(&self, py: Python<'_>, iteration: i64, stage: &str, unit: i64) -> PyResult<bool> {
        self.with(py, |ledger| ledger.is_done(iteration, stage, unit))
    }

    #[pyo3(signature = (iteration, stage, unit = 0))]
    fn info(&self, py: Python<'_>, iteration: i64, stage: &str, unit: i64) -> PyResult<Option<String>> {
        self.with(py, |ledger| ledger.info(iteration, stage, unit))
    }

    #[pyo3(signature = (iteration = None, stage = None))]
    fn units(&self, py: Python<'_>, iteration: Option<i64>, stage: Option<&str>) -> PyResult<Vec<PyUnit>> {
        self.with(py, |ledger| ledger.units(iteration, stage))
    }

    fn meta(&self, py: Python<'_>) -> PyResult<BTreeMap<String, String>> {
        self.with(py, |ledger| ledger.meta())
    }

    #[pyo3(signature = (sql, params = None))]
    fn query<'py>(&self, py: Python<'py>, sql: &str, params: Option<&Bound<'py, PyAny>>) -> PyResult<PyTable<'py>> {
        let params = match params {
            Some(params) => to_values(params, |at| format!("parameter {at}"))?,
            None => Vec::new(),
        };
        let found = self.with(py, |ledger| ledger.query(sql, &params))?;
        let row = |row: Vec<Value>| {
            let values: PyResult<Vec<_>> = row.into_iter().map(|v| to_object(py, v)).collect();
            PyTuple::new(py, values?)
        };
        let rows = found.rows.into_iter().map(row).collect::<PyResult<_>>()?;
        Ok((found.columns, rows))
    }

    #[pyo3(signature = (iteration, size, run_seed, weights = None))]
    fn choose_prompts(
        &self,
        py: Python<'_>,
        iteration: i64,
        size: usize,
        run_seed: u64,
        weights: Option<HashMap<String, f64>>,
    ) -> PyResult<Vec<String>> {
        let weights = weights.unwrap_or_default();
        self.with(py, |ledger| ledger.choose_prompts(iteration, size, run_seed, &weights))
    }

    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn plan_draws(
        &self,
        py: Python<'_>,
        iteration: i64,
        purpose: String,
        run_seed: u64,
        prompts: Vec<String>,
        cells: Vec<Bound<'_, PyAny>>,
        batch_size: usize,
    ) -> PyResult<Vec<PyDraw>> {
        let request = PlanRequest {
            iteration,
            purpose,
            run_seed,
            prompts,
            cells: cells.iter().map(to_cell).collect::<PyResult<_>>()?,
            batch_size,
        };
        let plan = self.with(py, |ledger| ledger.plan_draws(&request))?;
        Ok(plan
            .into_iter()
            .map(|d| (d.draw_id, d.prompt_id, d.cell, d.draw, d.seed, d.batch))
            .collect())
    }

    fn pending(&self, py: Python<'_>, iteration: i64, purpose: &str) -> PyResult<Vec<i64>> {
        self.with(py, |ledger| ledger.pending(iteration, purpose))
    }

    fn fork(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.with(py, |ledger| ledger.fork(&path))
    }

    fn check(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |ledger| ledger.check())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.open.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("Ledger({:?})", self.path)
    }
}
