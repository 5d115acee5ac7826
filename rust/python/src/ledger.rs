//! `Ledger`: the run store for Python. The work is tso-core's, done without the GIL; values are converted in `values.rs`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tso_core::ledger::{self as core, PlanRequest, Value};
use tso_core::{Error, Result};

use crate::call::call;
use crate::error::{raise, to_py};
use crate::people::{to_candidate, to_said};
use crate::plan::Plan;
use crate::values::{to_answer, to_cell, to_object, to_rows, to_values};

type PyUnit = (i64, String, i64, String);
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
        py.detach(|| self.locked(work))
            .map_err(to_py)?
            .ok_or_else(|| self.closed())
    }

    /// What `work` gives; none where the ledger is closed.
    fn locked<T>(&self, work: impl FnOnce(&mut core::Ledger) -> Result<T>) -> Result<Option<T>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_mut().map(work).transpose()
    }

    fn closed(&self) -> PyErr {
        raise(
            "StoreError",
            &format!("the ledger of {} is closed; open it again", self.path.display()),
        )
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
    fn join(py: Python<'_>, path: PathBuf, sampler: &str) -> PyResult<Self> {
        py.detach(|| core::Ledger::join(&path, sampler))
            .map(Self::new)
            .map_err(to_py)
    }

    #[staticmethod]
    fn annotate(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| core::Ledger::annotate(&path))
            .map(Self::new)
            .map_err(to_py)
    }

    #[staticmethod]
    fn draw_seed(run_seed: &Bound<'_, PyAny>, iteration: i64, prompt_id: &str, cell: &str, draw: u32) -> PyResult<u64> {
        Ok(core::draw_seed(
            whole("run_seed", run_seed)?,
            iteration,
            prompt_id,
            cell,
            draw,
        ))
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
        size: &Bound<'_, PyAny>,
        run_seed: &Bound<'_, PyAny>,
        weights: Option<HashMap<String, f64>>,
    ) -> PyResult<Vec<String>> {
        let (size, run_seed) = (whole("size", size)? as usize, whole("run_seed", run_seed)?);
        let weights = weights.unwrap_or_default();
        self.with(py, |ledger| ledger.choose_prompts(iteration, size, run_seed, &weights))
    }

    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn plan_draws(
        &self,
        py: Python<'_>,
        iteration: i64,
        purpose: String,
        run_seed: &Bound<'_, PyAny>,
        prompts: Vec<String>,
        cells: Vec<Bound<'_, PyAny>>,
        batch_size: &Bound<'_, PyAny>,
    ) -> PyResult<Plan> {
        let request = PlanRequest {
            iteration,
            purpose,
            run_seed: whole("run_seed", run_seed)?,
            prompts,
            cells: cells.iter().map(to_cell).collect::<PyResult<_>>()?,
            batch_size: whole("batch_size", batch_size)? as usize,
        };
        let plan = call(py, Some(1), |stop| {
            self.locked(|ledger| ledger.plan_draws(request, stop))
        })?;
        plan.map(Plan::new).ok_or_else(|| self.closed())
    }

    fn plan(&self, py: Python<'_>, iteration: i64, purpose: &str) -> PyResult<Plan> {
        self.with(py, |ledger| ledger.plan(iteration, purpose)).map(Plan::new)
    }

    fn pending(&self, py: Python<'_>, iteration: i64, purpose: &str) -> PyResult<Vec<i64>> {
        self.with(py, |ledger| ledger.pending(iteration, purpose))
    }

    fn free_response_id(&self, py: Python<'_>) -> PyResult<i64> {
        self.with(py, |ledger| ledger.free_response_id())
    }

    fn lease(&self, py: Python<'_>, iteration: i64, purpose: &str, seconds: f64) -> PyResult<Option<i64>> {
        let time = time(seconds)?;
        self.with(py, |ledger| ledger.lease(iteration, purpose, time))
    }

    fn renew(&self, py: Python<'_>, iteration: i64, purpose: &str, batch: i64, seconds: f64) -> PyResult<()> {
        let time = time(seconds)?;
        self.with(py, |ledger| ledger.renew(iteration, purpose, batch, time))
    }

    fn release(&self, py: Python<'_>, iteration: i64, purpose: &str, batch: i64) -> PyResult<()> {
        self.with(py, |ledger| ledger.release(iteration, purpose, batch))
    }

    fn record(
        &self,
        py: Python<'_>,
        iteration: i64,
        purpose: &str,
        batch: i64,
        answers: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let answers = answers
            .try_iter()?
            .enumerate()
            .map(|(at, answer)| to_answer(at, &answer?))
            .collect::<PyResult<Vec<_>>>()?;
        self.with(py, |ledger| ledger.record(iteration, purpose, batch, &answers))
    }

    fn assign(
        &self,
        py: Python<'_>,
        annotator: &str,
        candidates: Vec<(String, i64, String)>,
        per_item: u32,
        seconds: f64,
    ) -> PyResult<Option<i64>> {
        let candidates: Vec<_> = candidates.into_iter().map(to_candidate).collect();
        let hold = time(seconds)?;
        self.with(py, |ledger| ledger.assign(annotator, &candidates, per_item, hold))
    }

    fn say(&self, py: Python<'_>, verdicts: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
        let verdicts = verdicts
            .try_iter()?
            .enumerate()
            .map(|(at, row)| to_said(at, &row?))
            .collect::<PyResult<Vec<_>>>()?;
        self.with(py, |ledger| ledger.say(&verdicts))
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

/// A whole number that Python gave, refused with its name where it is none or does not fit.
fn whole(name: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.extract().map_err(|_| {
        let given = value.repr().map_or_else(|_| "another".into(), |text| text.to_string());
        to_py(Error::Invalid(format!(
            "{name} has to be a whole number from 0 to 2**64 - 1, got {given}"
        )))
    })
}

/// Seconds that Python gave; how many are too many is the core's to say.
fn time(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        to_py(Error::Invalid(format!(
            "a lease of {seconds:?} s; give a number of seconds above 0 and at most a week"
        )))
    })
}

/// How many draws each cell gets (see tso/budgets.py).
#[pyfunction]
pub fn allot(total: i64, weights: Vec<f64>, floors: Vec<i64>) -> PyResult<Vec<u32>> {
    let count = |name: &str, value: i64| {
        u32::try_from(value).map_err(|_| {
            to_py(Error::Invalid(format!(
                "{name} has to be from 0 to {}, got {value}",
                u32::MAX
            )))
        })
    };
    let floors = floors.into_iter().map(|floor| count("a floor", floor));
    let floors = floors.collect::<PyResult<Vec<_>>>()?;
    core::allot(count("total", total)?, &weights, &floors).map_err(to_py)
}
