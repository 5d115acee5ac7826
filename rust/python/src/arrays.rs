//! Columns in and out: token lists come as Arrow through the PyCapsule interface, numbers as buffers, and results leave
//! as byte arrays that NumPy views without a copy.
//!
//! A column of one chunk is read where it lies; several chunks are gathered into one.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow_array::ffi_stream::{ArrayStreamReader, FFI_ArrowArrayStream};
use arrow_array::types::{Int32Type, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayReader, ArrayRef, GenericListArray, LargeListArray, OffsetSizeTrait, make_array};
use arrow_schema::{ArrowError, DataType};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyCapsule, PyTuple};
use tso_core::Error;
use tso_core::ragged::{Ids, Offsets, Ragged, Texts};

use crate::error::to_py;

/// A column of token lists, kept alive while the core reads it.
pub enum Tokens {
    Arrow(ArrayRef),
    Gathered {
        ids: Vec<u32>,
        offsets: Vec<i64>,
        nulls: Vec<bool>,
    },
}

impl Tokens {
    /// Takes any object with `__arrow_c_stream__` or `__arrow_c_array__`.
    pub fn import(column: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut chunks: Vec<ArrayRef> = chunks(column)?.into_iter().map(with_offsets).collect();
        match (chunks.pop(), chunks.is_empty()) {
            (Some(only), true) => Ok(Self::Arrow(only)),
            (last, _) => gather(chunks.into_iter().chain(last)).map_err(to_py),
        }
    }

    /// Number of rows, and of tokens at most: those beside a slice count too.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Arrow(array) => {
                let large = array.as_list_opt::<i64>().map(|list| list.values().len());
                let tokens = large.or_else(|| array.as_list_opt::<i32>().map(|list| list.values().len()));
                (array.len(), tokens.unwrap_or(usize::MAX))
            }
            Self::Gathered { ids, nulls, .. } => (nulls.len(), ids.len()),
        }
    }

    /// The column as the core sees it.
    pub fn ragged(&self) -> Result<Ragged<'_>, Error> {
        self.unchecked()?.checked()
    }

    /// The same with its ids unchecked, for a call that checks each row when it first reads it.
    pub fn unchecked(&self) -> Result<Ragged<'_>, Error> {
        match self {
            Self::Arrow(array) => ragged(array),
            Self::Gathered { ids, offsets, nulls } => {
                Ragged::unchecked(Ids::U32(ids), Offsets::I64(offsets), Some(nulls.clone()))
            }
        }
    }
}

/// Lists of a fixed size as lists with offsets, on the same ids.
fn with_offsets(array: ArrayRef) -> ArrayRef {
    match array.as_fixed_size_list_opt() {
        Some(fixed) => Arc::new(LargeListArray::from(fixed.clone())),
        None => array,
    }
}

fn chunks(column: &Bound<'_, PyAny>) -> PyResult<Vec<ArrayRef>> {
    if column.hasattr("__arrow_c_stream__")? {
        return stream(&column.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?);
    }
    if column.hasattr("__arrow_c_array__")? {
        let parts = column.call_method0("__arrow_c_array__")?.cast_into::<PyTuple>()?;
        let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) = parts.extract()?;
        return Ok(vec![single(&schema, &array)?]);
    }
    let kind = column.get_type().name()?;
    Err(to_py(Error::Invalid(format!(
        "tokens have to be an Arrow column of lists, got {kind}"
    ))))
}

fn stream(capsule: &Bound<'_, PyCapsule>) -> PyResult<Vec<ArrayRef>> {
    let pointer = capsule
        .pointer_checked(Some(c"arrow_array_stream"))?
        .cast::<FFI_ArrowArrayStream>();
    // SAFETY: a capsule of this name holds a valid, aligned ArrowArrayStream by the PyCapsule interface. `from_raw`
    // moves it out and leaves a released one behind, so the capsule's destructor does nothing. No Python code runs
    // between the check and the move.
    let mut reader = unsafe { ArrayStreamReader::from_raw(pointer.as_ptr()) }.map_err(unreadable)?;
    let kind = reader.field().data_type().clone();
    check_type(&kind).map_err(to_py)?;
    reader.by_ref().collect::<Result<_, _>>().map_err(unreadable)
}

fn single(schema: &Bound<'_, PyCapsule>, array: &Bound<'_, PyCapsule>) -> PyResult<ArrayRef> {
    let schema = schema.pointer_checked(Some(c"arrow_schema"))?.cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(c"arrow_array"))?.cast::<FFI_ArrowArray>();
    // SAFETY: capsules of these names hold valid, aligned structures that describe each other, by the PyCapsule
    // interface. The schema is borrowed while its capsule lives; the array is moved out and left released.
    let data = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) };
    let array = make_array(data.map_err(unreadable)?);
    check_type(array.data_type()).map_err(to_py)?;
    Ok(array)
}

fn unreadable(error: ArrowError) -> PyErr {
    to_py(Error::Invalid(format!("cannot read the token column: {error}")))
}

fn check_type(kind: &DataType) -> Result<(), Error> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) = kind else {
        let hint = match kind {
            DataType::Struct(_) => "pass one column of the table",
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "give its tokenizer with tokenizer=...",
            _ => "cast the column",
        };
        return Err(Error::Invalid(format!(
            "tokens have to be lists of ids, got {kind}; {hint}"
        )));
    };
    match item.data_type() {
        DataType::UInt32 | DataType::Int32 | DataType::Int64 | DataType::Null => Ok(()),
        other => Err(Error::Invalid(format!(
            "token ids have to be int32, int64 or uint32, got {other}; cast the column"
        ))),
    }
}

/// Its ids are unchecked.
fn ragged(array: &ArrayRef) -> Result<Ragged<'_>, Error> {
    match array.data_type() {
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            from_list(list, Offsets::I64(list.value_offsets()))
        }
        _ => {
            let list = array.as_list::<i32>();
            from_list(list, Offsets::I32(list.value_offsets()))
        }
    }
}

fn from_list<'a, O: OffsetSizeTrait>(list: &'a GenericListArray<O>, offsets: Offsets<'a>) -> Result<Ragged<'a>, Error> {
    let ids = list.values();
    if ids.null_count() > 0 && has_null_id(list) {
        return Err(Error::Invalid("a token id is null; drop or fill it first".into()));
    }
    let nulls = list.nulls().map(|nulls| nulls.iter().map(|valid| !valid).collect());
    let ids = match ids.data_type() {
        DataType::UInt32 => Ids::U32(ids.as_primitive::<UInt32Type>().values()),
        DataType::Int32 => Ids::I32(ids.as_primitive::<Int32Type>().values()),
        DataType::Int64 => Ids::I64(ids.as_primitive::<Int64Type>().values()),
        // Arrow's type of a list that never held anything.
        _ => Ids::U32(&[]),
    };
    Ragged::unchecked(ids, offsets, nulls)
}

/// Whether a null lies inside a row that counts; the ids may reach beyond the rows of a slice.
fn has_null_id<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> bool {
    list.iter().flatten().any(|row| row.logical_null_count() > 0)
}

fn gather(chunks: impl Iterator<Item = ArrayRef>) -> Result<Tokens, Error> {
    let (mut ids, mut offsets, mut nulls, mut buffer) = (Vec::new(), vec![0], Vec::new(), Vec::new());
    for (number, chunk) in chunks.enumerate() {
        let part = ragged(&chunk).and_then(Ragged::checked);
        let part = part.map_err(|error| Error::Invalid(format!("in chunk {number}: {error}")))?;
        for row in 0..part.rows() {
            ids.extend_from_slice(part.read(row, &mut buffer).unwrap_or(&[]));
            offsets.push(ids.len() as i64);
            nulls.push(part.is_null(row));
        }
    }
    Ok(Tokens::Gathered { ids, offsets, nulls })
}

/// A copy of a column of 64-bit integers.
pub fn integers(py: Python<'_>, column: &PyBuffer<i64>) -> PyResult<Vec<i64>> {
    column.to_vec(py)
}

/// A copy of a column of doubles.
pub fn doubles(py: Python<'_>, column: &PyBuffer<f64>) -> PyResult<Vec<f64>> {
    column.to_vec(py)
}

/// 64-bit integers as bytes, in the machine's order.
pub fn integer_bytes<'py>(
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = i64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    bytes_of(py, values.map(i64::to_ne_bytes))
}

/// Doubles as bytes, in the machine's order.
pub fn double_bytes<'py>(
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = f64>,
) -> PyResult<Bound<'py, PyByteArray>> {
    bytes_of(py, values.map(f64::to_ne_bytes))
}

/// 32-bit integers as bytes, in the machine's order.
pub fn four_bytes<'py>(
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = u32>,
) -> PyResult<Bound<'py, PyByteArray>> {
    bytes_of(py, values.map(u32::to_ne_bytes))
}

fn bytes_of<'py, const SIZE: usize>(
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = [u8; SIZE]>,
) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, values.len() * SIZE, |bytes| {
        for (place, value) in bytes.chunks_exact_mut(SIZE).zip(values) {
            place.copy_from_slice(&value);
        }
        Ok(())
    })
}
