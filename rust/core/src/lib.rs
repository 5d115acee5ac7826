//! The data tools behind `tso`: deduplication and diversity of tokenised text, and the bookkeeping of a sampling run.
//!
//! This crate knows nothing of Python, models or tokenizers: text arrives as lists of token ids.

#![forbid(unsafe_code)]

pub mod dedup;
pub mod diversity;
pub mod error;
pub mod ledger;
pub mod ragged;
pub mod run;
mod shingle;

pub use error::{Error, Result};
