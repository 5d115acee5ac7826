//! Columns of ids, offsets and nulls as they come: refused, or everything that takes them gives a result.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tso_core::dedup::index::{Index, IndexOptions};
use tso_core::dedup::{Keep, Link, Mode, PairOptions, Pairs, Scope, TextOptions, dedup_pairs, dedup_texts};
use tso_core::ragged::{Ids, Offsets, Ragged, Texts};
use tso_core::run::Stop;

#[derive(Arbitrary, Debug)]
enum Values {
    Unsigned(Vec<u32>),
    Signed(Vec<i32>),
    Long(Vec<i64>),
}

#[derive(Arbitrary, Debug)]
enum Ends {
    Any(Vec<i32>),
    AnyLong(Vec<i64>),
    /// Lengths, so that most columns are good ones.
    Lengths(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    values: Values,
    ends: Ends,
    nulls: Option<Vec<bool>>,
    groups: Vec<i64>,
    scores: Option<Vec<f64>>,
    threshold: f64,
    ngram: u8,
    max_length: Option<u8>,
    exact: bool,
    star: bool,
    global: bool,
}

fuzz_target!(|input: Input| {
    let ids = match &input.values {
        Values::Unsigned(ids) => Ids::U32(ids),
        Values::Signed(ids) => Ids::I32(ids),
        Values::Long(ids) => Ids::I64(ids),
    };
    let summed: Vec<i64>;
    let offsets = match &input.ends {
        Ends::Any(ends) => Offsets::I32(ends),
        Ends::AnyLong(ends) => Offsets::I64(ends),
        Ends::Lengths(lengths) => {
            let mut end = 0;
            summed = std::iter::once(0)
                .chain(lengths.iter().map(|&length| {
                    end += i64::from(length % 16);
                    end
                }))
                .collect();
            Offsets::I64(&summed)
        }
    };
    let Ok(texts) = Ragged::new(ids, offsets, input.nulls.clone()) else {
        return;
    };
    let stop = Stop::default();
    let (mode, link) = (
        if input.exact { Mode::Exact } else { Mode::Lsh },
        if input.star { Link::Star } else { Link::Component },
    );
    let keep = input.scores.as_deref().map_or(Keep::Longest, Keep::Score);
    let ngram = usize::from(input.ngram);
    let options = TextOptions {
        ngram,
        threshold: input.threshold,
        mode,
        link,
        keep,
        groups: None,
    };
    if let Ok(found) = dedup_texts(&texts, options, &stop) {
        assert_eq!(found.keep.len(), texts.rows());
        let clusters = (0..)
            .zip(&found.cluster)
            .filter(|&(row, &cluster)| row == cluster)
            .count();
        assert_eq!(found.keep.iter().filter(|keep| **keep).count(), clusters);
    }
    let grouped = TextOptions {
        groups: Some(&input.groups),
        ..options
    };
    let _ = dedup_texts(&texts, grouped, &stop);
    let pairs = Pairs {
        prompt: &texts,
        chosen: &texts,
        rejected: &texts,
    };
    let options = PairOptions {
        scope: if input.global { Scope::Global } else { Scope::Prompt },
        max_length: input.max_length.map(usize::from),
        ngram,
        threshold: input.threshold,
        mode,
        link,
        keep,
    };
    let _ = dedup_pairs(pairs, options, &stop);
    let options = IndexOptions {
        ngram,
        threshold: input.threshold,
        link,
    };
    if let Ok(mut index) = Index::in_memory(options) {
        let first = index.add(&texts, None, &stop).expect("a column that was checked");
        let again = index.add(&texts, None, &stop).expect("the same column");
        assert_eq!(first.keep.len(), texts.rows());
        // Everything that is not null is there already.
        let kept = (0..texts.rows())
            .filter(|&row| again.keep[row] && !texts.is_null(row))
            .count();
        assert_eq!(kept, 0);
    }
});
