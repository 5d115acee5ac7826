//! Diversity scores and selection (see tso/_core.pyi).

use std::collections::HashSet;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};
use tso_core::Error;
use tso_core::diversity::{self as core, Candidates, GroupScores, Method, ORDERS, Options, PickOptions, Scores};
use tso_core::ragged::Texts;
use tso_core::run::Stop;

use crate::arrays::{Tokens, double_bytes, doubles, integer_bytes, integers};
use crate::call::{call, call_here, size};
use crate::error::to_py;

const KNOWN: [&str; 5] = ["distinct", "entropy", "self_bleu", "jaccard", "vendi"];

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the Python function")]
pub fn diversity<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    groups: Option<PyBuffer<i64>>,
    ngram: i64,
    scores: HashSet<String>,
    order: f64,
    history: Option<&Bound<'py, PyAny>>,
    threads: Option<i64>,
) -> PyResult<Bound<'py, PyDict>> {
    if let Some(unknown) = scores.iter().find(|name| !KNOWN.contains(&name.as_str())) {
        let known = KNOWN.join(", ");
        return Err(to_py(Error::Invalid(format!(
            "there is no score '{unknown}'; there are {known}"
        ))));
    }
    let wanted = Scores {
        distinct: scores.contains("distinct"),
        entropy: scores.contains("entropy"),
        self_bleu: scores.contains("self_bleu"),
        jaccard: scores.contains("jaccard"),
        vendi: scores.contains("vendi"),
    };
    let tokens = Tokens::import(tokens)?;
    let history = history.map(Tokens::import).transpose()?;
    let groups = groups.map(|groups| integers(py, &groups)).transpose()?;
    let ngram = size("ngram", ngram)?;
    let (rows, most) = tokens.size();
    let work = |stop: &Stop| {
        let texts = tokens.ragged()?;
        let groups = groups.unwrap_or_else(|| vec![0; texts.rows()]);
        let history = history.as_ref().map(Tokens::ragged).transpose()?;
        let options = Options {
            scores: wanted,
            ngram,
            order,
            history: history.as_ref().map(|history| history as &dyn Texts),
        };
        core::diversity(&texts, &groups, options, stop)
    };
    let found = if history.is_none() && core::is_small(rows, most) {
        call_here(py, threads, work)?
    } else {
        call(py, threads, work)?
    };
    columns(py, &found, wanted, history.is_some())
}

/// The groups, column by column; only scores that were asked for have one.
fn columns<'py>(py: Python<'py>, found: &[GroupScores], wanted: Scores, novelty: bool) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    columns.set_item("group", integer_bytes(py, found.iter().map(|score| score.group))?)?;
    columns.set_item(
        "responses",
        integer_bytes(py, found.iter().map(|score| score.responses))?,
    )?;
    columns.set_item("tokens", integer_bytes(py, found.iter().map(|score| score.tokens))?)?;
    let double = |name: String, part: &dyn Fn(&GroupScores) -> f64| -> PyResult<()> {
        columns.set_item(name, double_bytes(py, found.iter().map(part))?)
    };
    for order in (0..ORDERS).filter(|_| wanted.distinct) {
        double(format!("distinct_{}", order + 1), &|score| score.distinct[order])?;
    }
    for order in (0..ORDERS).filter(|_| wanted.entropy) {
        double(format!("entropy_{}", order + 1), &|score| score.entropy[order])?;
    }
    if wanted.self_bleu {
        double("self_bleu".into(), &|score| score.self_bleu)?;
    }
    if wanted.jaccard {
        double("jaccard".into(), &|score| score.jaccard)?;
    }
    if wanted.vendi {
        double("vendi".into(), &|score| score.vendi)?;
    }
    if novelty {
        double("novelty".into(), &|score| score.novelty)?;
    }
    Ok(columns)
}

#[pyfunction]
pub fn pair_similarity<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    a: PyBuffer<i64>,
    b: PyBuffer<i64>,
    ngram: i64,
    threads: Option<i64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let tokens = Tokens::import(tokens)?;
    let (a, b, ngram) = (integers(py, &a)?, integers(py, &b)?, size("ngram", ngram)?);
    let found = call(py, threads, |stop| {
        core::pair_similarity(&tokens.ragged()?, &a, &b, ngram, stop)
    })?;
    double_bytes(py, found.into_iter())
}

#[pyfunction]
pub fn repetition<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    ngram: i64,
    threads: Option<i64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let (tokens, ngram) = (Tokens::import(tokens)?, size("ngram", ngram)?);
    let found = call(py, threads, |stop| core::repetition(&tokens.ragged()?, ngram, stop))?;
    double_bytes(py, found.into_iter())
}

#[pyfunction]
pub fn novelty<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    history: &Bound<'py, PyAny>,
    ngram: i64,
    threads: Option<i64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let (tokens, history, ngram) = (Tokens::import(tokens)?, Tokens::import(history)?, size("ngram", ngram)?);
    let found = call(py, threads, |stop| {
        core::novelty(&tokens.ragged()?, &history.ragged()?, ngram, stop)
    })?;
    double_bytes(py, found.into_iter())
}

#[pyfunction]
pub fn select_diverse<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    k: i64,
    method: &str,
    quality: Option<PyBuffer<f64>>,
    ngram: i64,
    threads: Option<i64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let (tokens, k, ngram) = (Tokens::import(tokens)?, size("k", k)?, size("ngram", ngram)?);
    let method = choose_method(method)?;
    let quality = quality.map(|quality| doubles(py, &quality)).transpose()?;
    let found = call(py, threads, |stop| {
        core::select_diverse(&tokens.ragged()?, k, method, quality.as_deref(), ngram, stop)
    })?;
    integer_bytes(py, found.into_iter())
}

fn choose_method(name: &str) -> PyResult<Method> {
    match name {
        "max_min" => Ok(Method::MaxMin),
        "dpp" => Ok(Method::Dpp),
        _ => Err(to_py(Error::Invalid(format!(
            "there is no method '{name}'; there are max_min and dpp"
        )))),
    }
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the Python function")]
pub fn pick_pairs<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    prompt: PyBuffer<i64>,
    a: PyBuffer<i64>,
    b: PyBuffer<i64>,
    quality: PyBuffer<f64>,
    max_pairs: i64,
    max_uses: i64,
    ngram: i64,
    threads: Option<i64>,
) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>)> {
    let tokens = Tokens::import(tokens)?;
    let (prompt, a, b) = (integers(py, &prompt)?, integers(py, &a)?, integers(py, &b)?);
    let quality = doubles(py, &quality)?;
    let options = PickOptions {
        max_pairs: size("max_pairs", max_pairs)?,
        max_uses: size("max_uses", max_uses)?,
        ngram: size("ngram", ngram)?,
    };
    let found = call(py, threads, |stop| {
        let candidates = Candidates {
            prompt: &prompt,
            a: &a,
            b: &b,
            quality: &quality,
        };
        core::pick_pairs(&tokens.ragged()?, candidates, options, stop)
    })?;
    Ok((
        integer_bytes(py, found.index.into_iter())?,
        double_bytes(py, found.jaccard.into_iter())?,
    ))
}
