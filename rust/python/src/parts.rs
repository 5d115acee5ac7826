//! Deduplication in parts, as `tso.parts` puts it together (see tso/_core.pyi).

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use tso_core::Error;
use tso_core::dedup::parts::{self, Reach, Sides};
use tso_core::dedup::{Edge, Link};

use crate::arrays::{Tokens, double_bytes, doubles, four_bytes, integer_bytes, integers};
use crate::call::{call, size};
use crate::dedup::{PyRows, pick, rows};
use crate::error::to_py;

/// Every part runs on one thread: whoever runs many of them gives each a core.
const THREADS: Option<i64> = Some(1);

#[pyfunction]
pub fn _bands(threshold: f64) -> PyResult<usize> {
    parts::bands(threshold).map_err(to_py)
}

#[pyfunction]
pub fn _hashes<'py>(py: Python<'py>, tokens: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyByteArray>> {
    let tokens = Tokens::import(tokens)?;
    let hashes = call(py, THREADS, |stop| parts::hashes(&tokens.ragged()?, stop))?;
    integer_bytes(py, hashes.into_iter().map(u64::cast_signed))
}

#[pyfunction]
pub fn _sketch<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    groups: Option<PyBuffer<i64>>,
    ngram: i64,
    threshold: f64,
) -> PyResult<Bound<'py, PyByteArray>> {
    let tokens = Tokens::import(tokens)?;
    let groups = groups.map(|groups| integers(py, &groups)).transpose()?;
    let ngram = size("ngram", ngram)?;
    let keys = call(py, THREADS, |stop| {
        parts::sketch(&tokens.ragged()?, groups.as_deref(), ngram, threshold, stop)
    })?;
    four_bytes(py, keys.into_iter())
}

#[pyfunction]
pub fn _couple<'py>(
    py: Python<'py>,
    keys: PyBuffer<u32>,
    prefix: u32,
    labels: Option<PyBuffer<i64>>,
    reach: &str,
) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>, u64)> {
    let keys = keys.to_vec(py)?;
    let labels = labels.map(|labels| integers(py, &labels)).transpose()?;
    let known = [
        ("neighbours", Reach::Neighbours),
        ("others", Reach::Others),
        ("all", Reach::All),
    ];
    let reach = pick("reach", reach, &known)?;
    let found = call(py, THREADS, |stop| {
        parts::couple(&keys, prefix, labels.as_deref(), reach, stop)
    })?;
    Ok((
        four_bytes(py, found.couples.iter().map(|couple| couple.0))?,
        four_bytes(py, found.couples.iter().map(|couple| couple.1))?,
        found.uncompared,
    ))
}

#[pyfunction]
pub fn _same<'py>(
    py: Python<'py>,
    left: &Bound<'py, PyAny>,
    right: &Bound<'py, PyAny>,
    a: PyBuffer<i64>,
    b: PyBuffer<i64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let (left, right) = (Tokens::import(left)?, Tokens::import(right)?);
    let couples = couples(py, &a, &b)?;
    let equal = call(py, THREADS, |stop| {
        let (left, right) = (&left.ragged()?, &right.ragged()?);
        let couples = &couples[..];
        parts::same(Sides { left, right, couples }, stop)
    })?;
    let equal: Vec<u8> = equal.into_iter().map(u8::from).collect();
    Ok(PyByteArray::new(py, &equal))
}

#[pyfunction]
pub fn _verify<'py>(
    py: Python<'py>,
    left: &Bound<'py, PyAny>,
    right: &Bound<'py, PyAny>,
    a: PyBuffer<i64>,
    b: PyBuffer<i64>,
    ngram: i64,
    threshold: f64,
) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>)> {
    let (left, right) = (Tokens::import(left)?, Tokens::import(right)?);
    let (couples, ngram) = (couples(py, &a, &b)?, size("ngram", ngram)?);
    let found = call(py, THREADS, |stop| {
        let (left, right) = (&left.ragged()?, &right.ragged()?);
        let couples = &couples[..];
        parts::verify(Sides { left, right, couples }, ngram, threshold, stop)
    })?;
    Ok((
        integer_bytes(py, found.iter().map(|(place, _)| *place as i64))?,
        double_bytes(py, found.iter().map(|(_, jaccard)| *jaccard))?,
    ))
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "a table of edges is three columns")]
pub fn _settle<'py>(
    py: Python<'py>,
    owners: PyBuffer<i64>,
    i: PyBuffer<i64>,
    j: PyBuffer<i64>,
    jaccard: PyBuffer<f64>,
    link: &str,
    score: Option<PyBuffer<f64>>,
    uncompared: u64,
) -> PyResult<PyRows<'py>> {
    let link = pick("link", link, &[("component", Link::Component), ("star", Link::Star)])?;
    let score = score.map(|score| doubles(py, &score)).transpose()?;
    let (owners, edges) = (integers(py, &owners)?, edges(py, &i, &j, &jaccard)?);
    let result = call(py, THREADS, |_| {
        parts::settle_parts(&owners, &edges, score.as_deref(), link, uncompared)
    })?;
    rows(py, result)
}

fn couples(py: Python<'_>, a: &PyBuffer<i64>, b: &PyBuffer<i64>) -> PyResult<Vec<(usize, usize)>> {
    let (a, b) = (integers(py, a)?, integers(py, b)?);
    equal_lengths(a.len(), b.len())?;
    let row = |row: i64| size("a row", row);
    a.into_iter().zip(b).map(|(a, b)| Ok((row(a)?, row(b)?))).collect()
}

fn edges(py: Python<'_>, i: &PyBuffer<i64>, j: &PyBuffer<i64>, jaccard: &PyBuffer<f64>) -> PyResult<Vec<Edge>> {
    let (i, j, jaccard) = (integers(py, i)?, integers(py, j)?, doubles(py, jaccard)?);
    equal_lengths(i.len(), j.len())?;
    equal_lengths(i.len(), jaccard.len())?;
    let row = |row: i64| u32::try_from(row).map_err(|_| to_py(Error::Invalid(format!("{row} is no row"))));
    let ends = i.into_iter().zip(j).zip(jaccard);
    ends.map(|((i, j), jaccard)| {
        Ok(Edge {
            i: row(i)?,
            j: row(j)?,
            jaccard,
        })
    })
    .collect()
}

fn equal_lengths(a: usize, b: usize) -> PyResult<()> {
    if a == b {
        Ok(())
    } else {
        Err(to_py(Error::Invalid(format!(
            "columns of {a} and {b} entries for the same couples"
        ))))
    }
}
