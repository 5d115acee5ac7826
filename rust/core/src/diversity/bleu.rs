//! Self-BLEU-4 (Zhu et al., 2018): the mean BLEU of each text against all others of its group, as NLTK's `sentence_bleu`
//! computes it with equal weights and smoothing method 1 (a numerator of 0 becomes 0.1).
//!
//! A text's n-gram counts are clipped by the largest count in any other text. Keeping the two largest counts of each
//! n-gram gives that for all texts at once, so the cost is linear in the group's tokens, not quadratic in its texts.

use super::ngrams::{Group, Occurrences};

const ORDERS: usize = 4;
const EPSILON: f64 = 0.1;

/// Clipped matches of each text with the others, per order. Keeps its memory from group to group.
#[derive(Default)]
pub(crate) struct Matched {
    matches: Vec<[u64; ORDERS]>,
    lengths: Vec<usize>,
}

impl Matched {
    /// Begins a group of so many texts.
    pub fn start(&mut self, texts: usize) {
        self.matches.clear();
        self.matches.resize(texts, [0; ORDERS]);
    }

    /// Counts one n-gram of the given order (1-based). One that the group has once matches nothing.
    pub fn add(&mut self, order: usize, counts: Occurrences<'_>) {
        let (mut first, mut second) = ((u32::MAX, 0), 0);
        for &(text, count) in counts {
            if count > first.1 {
                second = first.1;
                first = (text, count);
            } else {
                second = second.max(count);
            }
        }
        for &(text, count) in counts {
            let elsewhere = if text == first.0 { second } else { first.1 };
            self.matches[text as usize][order - 1] += u64::from(count.min(elsewhere));
        }
    }

    /// Mean BLEU over the texts of the group; `None` below two texts.
    pub fn mean_bleu(&mut self, group: &Group) -> Option<f64> {
        let texts = group.texts();
        if texts < 2 {
            return None;
        }
        self.lengths.clear();
        self.lengths.extend((0..texts).map(|text| group.length(text)));
        self.lengths.sort_unstable();
        let of_text = |(text, matched)| {
            let length = group.length(text);
            bleu(matched, length, closest_other(&self.lengths, length))
        };
        let total: f64 = self.matches.iter().enumerate().map(of_text).sum();
        Some(total / texts as f64)
    }
}

fn bleu(matched: &[u64; ORDERS], length: usize, reference: usize) -> f64 {
    if matched[0] == 0 {
        return 0.0;
    }
    let log_precision: f64 = matched
        .iter()
        .enumerate()
        .map(|(shorter, &matched)| {
            let all = length.saturating_sub(shorter).max(1) as f64;
            let matched = if matched == 0 { EPSILON } else { matched as f64 };
            (matched / all).ln()
        })
        .sum();
    let brevity = if length > reference {
        0.0
    } else {
        1.0 - reference as f64 / length as f64
    };
    (brevity + log_precision / ORDERS as f64).exp()
}

/// The length closest to `length` among all texts but one of that length; the shorter of two equally close ones.
fn closest_other(sorted: &[usize], length: usize) -> usize {
    let below = sorted.partition_point(|&other| other < length);
    if sorted.get(below + 1) == Some(&length) {
        return length;
    }
    let shorter = below.checked_sub(1).map(|at| sorted[at]);
    match (shorter, sorted.get(below + 1)) {
        (Some(shorter), Some(&longer)) if longer - length < length - shorter => longer,
        (Some(shorter), _) => shorter,
        (None, Some(&longer)) => longer,
        (None, None) => length,
    }
}
