//! How different the responses of a group are, and how to choose different ones.
//!
//! Null rows take part in nothing. N-grams are counted exactly where they are compared across a group;
//! similarities are Jaccard similarities of hashed shingle sets, as in [`crate::dedup`].

mod bleu;
mod ngrams;
mod pick;
mod scores;
mod select;
mod similarity;

pub use pick::{Candidates, PickOptions, Picked, pick_pairs};
pub use scores::{GroupScores, ORDERS, Scores, diversity};
pub use select::select_diverse;
pub use similarity::{pair_similarity, repetition};
