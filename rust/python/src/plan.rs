//! `Plan`: the draws of an iteration for Python, made when they are asked for.

use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use tso_core::Error;
use tso_core::ledger::{self as core, Draw};

use crate::error::to_py;

/// A list of more draws than this would take memory beyond what anybody means to spend on it.
const MOST_LISTED: usize = 1 << 22;

type PyDraw = (i64, Py<PyString>, Py<PyString>, u32, u64, i64);

/// The plan of an iteration's draws (see tso/_core.pyi).
#[pyclass(module = "tso._core", frozen)]
pub struct Plan(Arc<core::Plan>);

impl Plan {
    pub fn new(plan: core::Plan) -> Self {
        Plan(Arc::new(plan))
    }
}

#[pymethods]
impl Plan {
    #[getter]
    fn batches(&self) -> i64 {
        self.0.batches()
    }

    fn batch(&self, py: Python<'_>, batch: i64) -> PyResult<Vec<PyDraw>> {
        let draws = self
            .0
            .batch(batch)
            .ok_or_else(|| PyIndexError::new_err(format!("batch {batch} of a plan of {} batches", self.0.batches())))?;
        if draws.len() > MOST_LISTED {
            return Err(to_py(Error::Invalid(format!(
                "batch {batch} has {} draws, and a list holds {MOST_LISTED} at most; plan smaller batches, or go through \
                 the plan draw by draw",
                draws.len()
            ))));
        }
        let mut last = None;
        Ok(draws.map(|draw| tuple(py, draw, &mut last)).collect())
    }

    fn __len__(&self) -> usize {
        // A plan beyond the address space has a length that Python cannot hold either.
        usize::try_from(self.0.draws()).unwrap_or(usize::MAX)
    }

    fn __getitem__(&self, py: Python<'_>, place: i64) -> PyResult<PyDraw> {
        let at = if place < 0 { place + self.0.draws() } else { place };
        self.0
            .get(at)
            .map(|draw| tuple(py, draw, &mut None))
            .ok_or_else(|| PyIndexError::new_err(format!("draw {place} of a plan of {} draws", self.0.draws())))
    }

    fn __iter__(&self) -> Draws {
        Draws {
            plan: Arc::clone(&self.0),
            next: 0,
            last: None,
        }
    }

    fn __repr__(&self) -> String {
        let request = self.0.request();
        format!(
            "Plan(iteration={}, purpose={:?}, draws={}, batches={})",
            request.iteration,
            request.purpose,
            self.0.draws(),
            self.0.batches()
        )
    }
}

/// Goes through a plan draw by draw.
#[pyclass(module = "tso._core")]
pub struct Draws {
    plan: Arc<core::Plan>,
    next: i64,
    last: Prompt,
}

#[pymethods]
impl Draws {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> Option<PyDraw> {
        let draw = self.plan.get(self.next)?;
        self.next += 1;
        Some(tuple(py, draw, &mut self.last))
    }
}

/// The prompt of the draw before, as text of Rust and of Python: mostly it comes again.
type Prompt = Option<(String, Py<PyString>)>;

fn tuple(py: Python<'_>, draw: Draw<'_>, last: &mut Prompt) -> PyDraw {
    let prompt = match last {
        Some((id, text)) if id == draw.prompt_id => text.clone_ref(py),
        _ => {
            let text = PyString::new(py, draw.prompt_id).unbind();
            *last = Some((draw.prompt_id.to_owned(), text.clone_ref(py)));
            text
        }
    };
    // There are few cells, and their names come with every draw.
    let cell = PyString::intern(py, draw.cell).unbind();
    (draw.draw_id, prompt, cell, draw.draw, draw.seed, draw.batch)
}
