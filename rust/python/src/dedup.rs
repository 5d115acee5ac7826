//! `dedup_texts` and `dedup_pairs` (see tso/_core.pyi).

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use tso_core::Error;
use tso_core::dedup::{self, Edge, Keep, Link, Mode, PairOptions, Pairs, Scope, TextOptions, TextResult};

use crate::arrays::{Tokens, double_bytes, doubles, integer_bytes, integers};
use crate::call::{call, size};
use crate::error::to_py;

pub type PyEdges<'py> = (
    Bound<'py, PyByteArray>,
    Bound<'py, PyByteArray>,
    Bound<'py, PyByteArray>,
);
/// keep, cluster, reason, edges, uncompared.
pub type PyRows<'py> = (
    Bound<'py, PyByteArray>,
    Bound<'py, PyByteArray>,
    Bound<'py, PyByteArray>,
    PyEdges<'py>,
    u64,
);

/// What both functions are told about the search and about which row stays.
struct Search {
    ngram: usize,
    threshold: f64,
    mode: Mode,
    link: Link,
    keep: Choice,
}

/// [`Keep`] with the scores owned.
enum Choice {
    First,
    Longest,
    Score(Vec<f64>),
}

impl Search {
    fn new(ngram: i64, threshold: f64, mode: &str, link: &str, keep: Choice) -> PyResult<Self> {
        let mode = pick("mode", mode, &[("lsh", Mode::Lsh), ("exact", Mode::Exact)])?;
        let link = pick("link", link, &[("component", Link::Component), ("star", Link::Star)])?;
        Ok(Self {
            ngram: size("ngram", ngram)?,
            threshold,
            mode,
            link,
            keep,
        })
    }
}

impl Choice {
    fn new(py: Python<'_>, keep: &str, score: Option<PyBuffer<f64>>) -> PyResult<Self> {
        match (keep, score) {
            (_, Some(score)) => Ok(Self::Score(doubles(py, &score)?)),
            ("first", None) => Ok(Self::First),
            ("longest", None) => Ok(Self::Longest),
            _ => Err(to_py(Error::Invalid(format!(
                "keep has to be 'first', 'longest' or a score per row, got '{keep}'"
            )))),
        }
    }

    fn borrow(&self) -> Keep<'_> {
        match self {
            Self::First => Keep::First,
            Self::Longest => Keep::Longest,
            Self::Score(scores) => Keep::Score(scores),
        }
    }
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the Python function")]
pub fn dedup_texts<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    groups: Option<PyBuffer<i64>>,
    ngram: i64,
    threshold: f64,
    mode: &str,
    link: &str,
    keep: &str,
    score: Option<PyBuffer<f64>>,
    threads: Option<i64>,
) -> PyResult<PyRows<'py>> {
    let tokens = Tokens::import(tokens)?;
    let groups = groups.map(|groups| integers(py, &groups)).transpose()?;
    let search = Search::new(ngram, threshold, mode, link, Choice::new(py, keep, score)?)?;
    let result = call(py, threads, |stop| {
        let options = TextOptions {
            ngram: search.ngram,
            threshold: search.threshold,
            mode: search.mode,
            link: search.link,
            keep: search.keep.borrow(),
            groups: groups.as_deref(),
        };
        dedup::dedup_texts(&tokens.unchecked()?, options, stop)
    })?;
    rows(py, result)
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the Python function")]
pub fn dedup_pairs<'py>(
    py: Python<'py>,
    prompt: &Bound<'py, PyAny>,
    chosen: &Bound<'py, PyAny>,
    rejected: &Bound<'py, PyAny>,
    scope: &str,
    ngram: i64,
    threshold: f64,
    max_length: Option<i64>,
    mode: &str,
    link: &str,
    keep: &str,
    score: Option<PyBuffer<f64>>,
    threads: Option<i64>,
) -> PyResult<(PyRows<'py>, PyEdges<'py>)> {
    let (prompt, chosen, rejected) = (
        Tokens::import(prompt)?,
        Tokens::import(chosen)?,
        Tokens::import(rejected)?,
    );
    let search = Search::new(ngram, threshold, mode, link, Choice::new(py, keep, score)?)?;
    let scope = pick("scope", scope, &[("prompt", Scope::Prompt), ("global", Scope::Global)])?;
    let max_length = max_length.map(|length| size("max_length", length)).transpose()?;
    let result = call(py, threads, |stop| {
        let options = PairOptions {
            scope,
            max_length,
            ngram: search.ngram,
            threshold: search.threshold,
            mode: search.mode,
            link: search.link,
            keep: search.keep.borrow(),
        };
        let (prompt, chosen, rejected) = (prompt.ragged()?, chosen.ragged()?, rejected.ragged()?);
        let pairs = Pairs {
            prompt: &prompt,
            chosen: &chosen,
            rejected: &rejected,
        };
        dedup::dedup_pairs(pairs, options, stop)
    })?;
    Ok((rows(py, result.rows)?, edges(py, &result.reversed)?))
}

/// The result's columns as Python takes them.
pub fn rows(py: Python<'_>, result: TextResult) -> PyResult<PyRows<'_>> {
    let keep: Vec<u8> = result.keep.iter().map(|&keep| u8::from(keep)).collect();
    Ok((
        PyByteArray::new(py, &keep),
        integer_bytes(py, result.cluster.iter().copied())?,
        PyByteArray::new(py, &result.reason),
        edges(py, &result.edges)?,
        result.uncompared,
    ))
}

fn edges<'py>(py: Python<'py>, edges: &[Edge]) -> PyResult<PyEdges<'py>> {
    Ok((
        integer_bytes(py, edges.iter().map(|edge| i64::from(edge.i)))?,
        integer_bytes(py, edges.iter().map(|edge| i64::from(edge.j)))?,
        double_bytes(py, edges.iter().map(|edge| edge.jaccard))?,
    ))
}

/// The value that a word stands for.
pub fn pick<T: Copy>(name: &str, word: &str, known: &[(&str, T)]) -> PyResult<T> {
    known
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let words: Vec<String> = known.iter().map(|(known, _)| format!("'{known}'")).collect();
            to_py(Error::Invalid(format!(
                "{name} has to be {}, got '{word}'",
                words.join(" or ")
            )))
        })
}
