//! `Ledger`: the run store for Python. Values are converted here; the work is tso-core's, without the GIL.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};
use tso_core::Error;
use tso_core::ledger::plan::{CellPlan, PlanKey};
use tso_core::ledger::{Journal, RowSet, Unit, Value};

use crate::error::{raise, to_py};

type PyRows<'py> = BTreeMap<String, (Vec<String>, Vec<Bound<'py, PyAny>>)>;
type PyDraw = (i64, String, String, i64, u64, i64);

/// One run's store (see tso/_core.pyi).
#[pyclass(module = "tso._core", frozen)]
pub struct Ledger {
    journal: Mutex<Option<Journal>>,
}

impl Ledger {
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Journal) -> Result<T, Error> + Send) -> PyResult<T> {
        let done = py.detach(|| {
            let mut guard = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_mut().map(work)
        });
        match done {
            Some(result) => result.map_err(to_py),
            None => Err(raise("StoreError", "the ledger is closed; open it again")),
        }
    }

    fn new(journal: Journal) -> Self {
        Self {
            journal: Mutex::new(Some(journal)),
        }
    }
}

#[pymethods]
impl Ledger {
    #[staticmethod]
    fn create(py: Python<'_>, path: PathBuf, meta: BTreeMap<String, String>) -> PyResult<Self> {
        py.detach(|| Journal::create(&path, &meta))
            .map(Self::new)
            .map_err(to_py)
    }

    #[staticmethod]
    #[pyo3(signature = (path, *, read_only = false))]
    fn open(py: Python<'_>, path: PathBuf, read_only: bool) -> PyResult<Self> {
        py.detach(|| Journal::open(&path, read_only))
            .map(Self::new)
            .map_err(to_py)
    }

    fn write(
        &self,
        py: Python<'_>,
        iteration: i64,
        stage: String,
        unit: i64,
        info: String,
        rows: PyRows<'_>,
    ) -> PyResult<()> {
        let rows = rows
            .into_iter()
            .map(|(table, (columns, rows))| {
                let rows = rows
                    .iter()
                    .map(|row| row_values(&table, row))
                    .collect::<PyResult<_>>()?;
                Ok((table, RowSet { columns, rows }))
            })
            .collect::<PyResult<BTreeMap<_, _>>>()?;
        let unit = Unit {
            iteration,
            stage,
            unit,
            info,
        };
        self.with(py, move |journal| journal.write(&unit, &rows))
    }

    #[pyo3(signature = (iteration, stage, unit = 0))]
    fn is_done(&self, py: Python<'_>, iteration: i64, stage: &str, unit: i64) -> PyResult<bool> {
        self.with(py, |journal| journal.info(iteration, stage, unit))
            .map(|info| info.is_some())
    }

    #[pyo3(signature = (iteration, stage, unit = 0))]
    fn info(&self, py: Python<'_>, iteration: i64, stage: &str, unit: i64) -> PyResult<Option<String>> {
        self.with(py, |journal| journal.info(iteration, stage, unit))
    }

    #[pyo3(signature = (iteration = None, stage = None))]
    fn units(
        &self,
        py: Python<'_>,
        iteration: Option<i64>,
        stage: Option<&str>,
    ) -> PyResult<Vec<(i64, String, i64, String)>> {
        let units = self.with(py, |journal| journal.units(iteration, stage))?;
        Ok(units
            .into_iter()
            .map(|u| (u.iteration, u.stage, u.unit, u.info))
            .collect())
    }

    fn meta(&self, py: Python<'_>) -> PyResult<BTreeMap<String, String>> {
        self.with(py, |journal| journal.meta())
    }

    #[pyo3(signature = (sql, params = None))]
    fn query<'py>(
        &self,
        py: Python<'py>,
        sql: &str,
        params: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Vec<String>, Vec<Bound<'py, PyTuple>>)> {
        let params = params.map_or(Ok(Vec::new()), |p| row_values("params", &p))?;
        let (names, rows) = self.with(py, |journal| journal.query(sql, &params))?;
        let rows = rows
            .into_iter()
            .map(|row| {
                let values = row
                    .into_iter()
                    .map(|v| to_object(py, v))
                    .collect::<PyResult<Vec<_>>>()?;
                PyTuple::new(py, values)
            })
            .collect::<PyResult<_>>()?;
        Ok((names, rows))
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
        self.with(py, |journal| {
            journal.choose_prompts(iteration, size, run_seed, &weights)
        })
    }

    #[allow(clippy::too_many_arguments)] // Python's arguments, named there
    fn plan_draws(
        &self,
        py: Python<'_>,
        iteration: i64,
        purpose: &str,
        run_seed: u64,
        prompts: Vec<String>,
        cells: Vec<CellPlan>,
        batch_size: usize,
    ) -> PyResult<Vec<PyDraw>> {
        let key = PlanKey {
            run_seed,
            iteration,
            purpose,
        };
        let plan = self.with(py, |journal| journal.plan_draws(key, &prompts, &cells, batch_size))?;
        Ok(plan
            .into_iter()
            .map(|d| (d.id, d.prompt, d.cell, d.draw, d.seed, d.batch))
            .collect())
    }

    fn pending(&self, py: Python<'_>, iteration: i64, purpose: &str) -> PyResult<Vec<i64>> {
        self.with(py, |journal| journal.pending(iteration, purpose))
    }

    fn fork(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.with(py, |journal| journal.fork(&path))
    }

    fn check(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |journal| journal.check())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.journal.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyTuple>) {
        self.close(py);
    }
}

fn row_values(table: &str, row: &Bound<'_, PyAny>) -> PyResult<Vec<Value>> {
    row.try_iter()?.map(|item| to_value(table, &item?)).collect()
}

fn to_value(table: &str, item: &Bound<'_, PyAny>) -> PyResult<Value> {
    if item.is_none() {
        Ok(Value::Null)
    } else if let Ok(flag) = item.cast::<PyBool>() {
        Ok(Value::Integer(i64::from(flag.is_true())))
    } else if item.is_instance_of::<PyInt>() {
        item.extract().map(Value::Integer)
    } else if item.is_instance_of::<PyFloat>() {
        item.extract().map(Value::Real)
    } else if let Ok(text) = item.cast::<PyString>() {
        Ok(Value::Text(text.to_str()?.to_owned()))
    } else if let Ok(bytes) = item.cast::<PyBytes>() {
        Ok(Value::Blob(bytes.as_bytes().to_vec()))
    } else {
        let kind = item.get_type().name()?.to_string();
        Err(raise(
            "DataError",
            &format!("{table}: a value of type {kind} cannot be stored"),
        ))
    }
}

fn to_object<'py>(py: Python<'py>, value: Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Integer(x) => x.into_pyobject(py)?.into_any(),
        Value::Real(x) => PyFloat::new(py, x).into_any(),
        Value::Text(x) => PyString::new(py, &x).into_any(),
        Value::Blob(x) => PyBytes::new(py, &x).into_any(),
    })
}
