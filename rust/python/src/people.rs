//! People's verdicts from Python's tuples.

use pyo3::prelude::*;
use tso_core::Error;
use tso_core::ledger::{Candidate, Said};

use crate::error::to_py;

/// (pair id, round, "a" or "b" on the left).
pub fn to_candidate(candidate: (String, i64, String)) -> Candidate {
    let (pair_id, round, on_left) = candidate;
    Candidate {
        pair_id,
        round,
        on_left,
    }
}

type Text = Option<String>;

/// (pair id, annotator, round, said, side, text, reason, confidence, takes back, request, given) as in `verdicts`.
pub fn to_said(at: usize, row: &Bound<'_, PyAny>) -> PyResult<Said> {
    type Row = (
        String,
        String,
        i64,
        String,
        Text,
        Text,
        String,
        f64,
        Option<i64>,
        Text,
        Option<i64>,
    );
    let (pair_id, annotator, round, said, side, text, reason, confidence, takes_back, request, given): Row =
        row.extract().map_err(|err| {
            to_py(Error::Invalid(format!(
                "verdict {at}: give (pair id, annotator, round, said, side, text, reason, confidence, takes back, \
                 request, given), with text that is UTF-8: {err}"
            )))
        })?;
    Ok(Said {
        pair_id,
        annotator,
        round,
        said,
        side,
        text,
        reason,
        confidence,
        takes_back,
        request,
        given,
    })
}
