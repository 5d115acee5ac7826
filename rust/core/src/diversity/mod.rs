//! How different the responses of a group are, and how to choose different ones.
//!
//! Null rows take part in nothing. N-grams are counted exactly where they are compared across a group;
//! similarities are Jaccard similarities of hashed shingle sets, as in [`crate::dedup`].

mod bleu;
mod dpp;
mod eigen;
mod ngrams;
mod novelty;
mod number;
mod pick;
mod scored;
mod scores;
mod select;
mod similarity;
mod vendi;
mod workspace;

pub use novelty::novelty;
pub use pick::{Candidates, PickOptions, Picked, pick_pairs};
pub use scored::{GroupScores, ORDERS, Options, Scores};
pub use scores::{diversity, is_small};
pub use select::{Method, select_diverse};
pub use similarity::{pair_similarity, repetition};
