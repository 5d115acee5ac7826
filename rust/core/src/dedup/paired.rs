//! Tables of pairs, and how they are to be compared.

use super::{Keep, Link, Mode};
use crate::ragged::Texts;

/// Which prompts may be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only pairs of exactly the same prompt are compared.
    Prompt,
    /// Pairs of all prompts are compared, and their prompts have to be the same or near-duplicates too.
    Global,
}

/// Options of [`dedup_pairs`]; the fields shared with texts mean the same there.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct PairOptions<'a> {
    /// Which prompts may be the same.
    pub scope: Scope,
    /// Length in tokens, prompt included, to which training will cut pairs from the end.
    pub max_length: Option<usize>,
    pub ngram: usize,
    pub threshold: f64,
    pub mode: Mode,
    pub link: Link,
    pub keep: Keep<'a>,
}

/// The three columns of a table of pairs.
#[derive(Clone, Copy)]
pub struct Pairs<'a> {
    /// Tokens of the prompts.
    pub prompt: &'a dyn Texts,
    /// Tokens of the chosen completions.
    pub chosen: &'a dyn Texts,
    /// Tokens of the rejected completions.
    pub rejected: &'a dyn Texts,
}
