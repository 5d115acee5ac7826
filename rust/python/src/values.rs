//! Python values into the store's and back.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};
use tso_core::Error;
use tso_core::ledger::{Answer, CellRequest, Rows, Value};

use crate::error::to_py;

fn unusable(message: String) -> PyErr {
    to_py(Error::Invalid(message))
}

/// A cell and its draws, with the prompts that it answers where these are not all, and with the model that answers
/// where it shares batches with other cells of that model.
pub fn to_cell(cell: &Bound<'_, PyAny>) -> PyResult<CellRequest> {
    let named = |(cell, draws, prompts, model)| CellRequest {
        cell,
        draws,
        prompts,
        model,
    };
    cell.extract::<(String, u32)>()
        .map(|(cell, draws)| (cell, draws, None, None))
        .or_else(|_| {
            cell.extract()
                .map(|(cell, draws, prompts)| (cell, draws, prompts, None))
        })
        .or_else(|_| cell.extract())
        .map(named)
        .map_err(|_| {
            unusable(format!(
                "a cell is (name, draws), (name, draws, prompt ids or None) or (name, draws, prompt ids or None, model \
                 or None), not {cell}"
            ))
        })
}

/// An answer and its place among those of a batch.
pub fn to_answer(at: usize, answer: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let wrong = |what: &str| unusable(format!("answer {at}: {what}"));
    let (text, token_ids, finish_reason) = answer
        .extract::<(Bound<'_, PyString>, Bound<'_, PyBytes>, String)>()
        .map_err(|_| wrong("give (text, token ids as bytes of little-endian u32, 'stop' or 'length')"))?;
    let text = text
        .to_str()
        .map_err(|_| wrong("its text holds a lone surrogate, which is no UTF-8 text"))?;
    Ok(Answer {
        text: text.to_owned(),
        token_ids: token_ids.as_bytes().to_vec(),
        finish_reason,
    })
}

pub fn to_rows(table: &Bound<'_, PyAny>, rows: &Bound<'_, PyAny>) -> PyResult<Rows> {
    let table: String = table.extract()?;
    let (columns, rows): (Vec<String>, Bound<'_, PyAny>) = rows
        .extract()
        .map_err(|_| unusable(format!("{table}: give (column names, rows)")))?;
    let name = |column: usize| columns.get(column).map_or("?", String::as_str);
    let rows = rows
        .try_iter()?
        .enumerate()
        .map(|(at, row)| to_values(&row?, |column| format!("{table}.{}, row {at}", name(column))))
        .collect::<PyResult<_>>()?;
    Ok(Rows { table, columns, rows })
}

/// The values of a row; `place` names one by its number where it cannot be stored.
pub fn to_values(row: &Bound<'_, PyAny>, place: impl Fn(usize) -> String) -> PyResult<Vec<Value>> {
    let value = |(at, item): (usize, PyResult<Bound<'_, PyAny>>)| {
        let item = item?;
        to_value(&item)?.map_err(|what| unusable(format!("{}: {what}", place(at))))
    };
    row.try_iter()?.enumerate().map(value).collect()
}

/// Exact kinds only: a value that would have to be converted (Decimal, a NumPy integer, a tensor) is refused by name.
fn to_value(item: &Bound<'_, PyAny>) -> PyResult<std::result::Result<Value, String>> {
    Ok(Ok(if item.is_none() {
        Value::Null
    } else if let Ok(flag) = item.cast::<PyBool>() {
        Value::Int(i64::from(flag.is_true()))
    } else if item.is_instance_of::<PyInt>() {
        return to_integer(item);
    } else if item.is_instance_of::<PyFloat>() {
        Value::Real(item.extract()?)
    } else if let Ok(text) = item.cast::<PyString>() {
        match text.to_str() {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => return Ok(Err("holds a lone surrogate, which is no UTF-8 text".into())),
        }
    } else if let Ok(bytes) = item.cast::<PyBytes>() {
        Value::Blob(bytes.as_bytes().to_vec())
    } else {
        let kind = item.get_type().name()?;
        return Ok(Err(format!(
            "a value of type {kind} cannot be stored; convert it first"
        )));
    }))
}

fn to_integer(item: &Bound<'_, PyAny>) -> PyResult<std::result::Result<Value, String>> {
    match item.extract::<i64>() {
        Ok(value) => Ok(Ok(Value::Int(value))),
        Err(error) if error.is_instance_of::<PyOverflowError>(item.py()) => Ok(item
            .extract::<u64>()
            .map(Value::Unsigned)
            .map_err(|_| "is beyond 64 bits".into())),
        Err(error) => Err(error),
    }
}

pub fn to_object<'py>(py: Python<'py>, value: Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Int(x) => x.into_pyobject(py)?.into_any(),
        Value::Unsigned(x) => x.into_pyobject(py)?.into_any(),
        Value::Real(x) => PyFloat::new(py, x).into_any(),
        Value::Text(x) => PyString::new(py, &x).into_any(),
        Value::Blob(x) => PyBytes::new(py, &x).into_any(),
    })
}
