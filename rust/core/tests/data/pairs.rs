//! The rules for pairs.

use proptest::prelude::*;
use tso_core::dedup::{Keep, Link, Mode, PairOptions, PairResult, Pairs, Scope, dedup_pairs};
use tso_core::run::{Stop, on_threads};

use crate::twin::Text;
use crate::twin::pairs::{Row, Rules, dedup};
use crate::{Batch, threshold};

const OPTIONS: PairOptions<'static> = PairOptions {
    scope: Scope::Prompt,
    max_length: None,
    ngram: 1,
    threshold: 1.0,
    mode: Mode::Exact,
    link: Link::Component,
    keep: Keep::First,
};

fn run(rows: &[Row], options: PairOptions<'_>) -> PairResult {
    let column = |part: fn(&Row) -> Text| Batch::new(&rows.iter().map(part).collect::<Vec<_>>());
    let prompt = column(|row| row.prompt.clone());
    let chosen = column(|row| row.chosen.clone());
    let rejected = column(|row| row.rejected.clone());
    let (prompt, chosen, rejected) = (prompt.ragged(), chosen.ragged(), rejected.ragged());
    let pairs = Pairs {
        prompt: &prompt,
        chosen: &chosen,
        rejected: &rejected,
    };
    on_threads(Some(2), || dedup_pairs(pairs, options, &Stop::default())).unwrap()
}

/// Rows of single-token sides, all for one prompt.
fn plain(pairs: &[(u32, u32)]) -> Vec<Row> {
    let text = |token| Some(vec![token]);
    pairs
        .iter()
        .map(|&(c, r)| Row {
            prompt: text(9),
            chosen: text(c),
            rejected: text(r),
        })
        .collect()
}

/// Preferences between few responses of few prompts: contradictions and cycles are common.
fn preferences() -> impl Strategy<Value = Vec<Row>> {
    let text = |most: u32| (0u32..most).prop_map(|token| Some(vec![token]));
    let row = (text(2), text(6), text(6)).prop_map(|(prompt, chosen, rejected)| Row {
        prompt,
        chosen,
        rejected,
    });
    prop::collection::vec(row, 0..16)
}

/// Rows made of similar texts, with nulls.
fn similar() -> impl Strategy<Value = Vec<Row>> {
    let places = prop::collection::vec([0usize..12, 0usize..12, 0usize..12], 0..20);
    (crate::texts(12), places).prop_map(|(texts, places)| {
        let text = |place: usize| texts.get(place).cloned().unwrap_or(Some(vec![3, 3]));
        let row = |[p, c, r]: [usize; 3]| Row {
            prompt: text(p / 4),
            chosen: text(c),
            rejected: text(r),
        };
        places.into_iter().map(row).collect()
    })
}

fn check(rows: &[Row], options: PairOptions<'_>, preference: &[f64]) {
    let result = run(rows, options);
    let rules = Rules {
        global: options.scope == Scope::Global,
        max_length: options.max_length,
        n: options.ngram,
        threshold: options.threshold,
        star: options.link == Link::Star,
    };
    let expected = dedup(rows, &rules, preference, matches!(options.keep, Keep::Score(_)));
    assert_eq!(result.rows.reason, expected.reason);
    assert_eq!(result.rows.keep, expected.keep);
    assert_eq!(result.rows.cluster, expected.cluster);
    for edge in result.rows.edges.iter().chain(&result.reversed) {
        assert!(edge.i < edge.j && edge.jaccard >= options.threshold);
    }
}

proptest! {
    #[test]
    fn preferences_match_the_twin(rows in preferences(), scores in prop::collection::vec(0u8..4, 16), scored: bool) {
        let scores: Vec<f64> = scores[..rows.len()].iter().map(|&s| f64::from(s)).collect();
        if scored {
            check(&rows, PairOptions { keep: Keep::Score(&scores), ..OPTIONS }, &scores);
        } else {
            check(&rows, OPTIONS, &vec![0.0; rows.len()]);
        }
    }

    #[test]
    fn similar_pairs_match_the_twin(
        rows in similar(),
        scores in prop::collection::vec(0u8..4, 20),
        (ngram, threshold, global, star) in (1usize..4, threshold(), any::<bool>(), any::<bool>()),
        max_length in prop::option::of(0usize..20),
        keep in 0u8..3,
    ) {
        let scores: Vec<f64> = scores[..rows.len()].iter().map(|&s| f64::from(s)).collect();
        let length = |text: &Text| text.as_ref().map_or(0, Vec::len) as f64;
        let (keep, preference) = match keep {
            0 => (Keep::First, vec![0.0; rows.len()]),
            1 => (Keep::Longest, rows.iter().map(|row| length(&row.chosen) + length(&row.rejected)).collect()),
            _ => (Keep::Score(&scores), scores.clone()),
        };
        let scope = if global { Scope::Global } else { Scope::Prompt };
        let link = if star { Link::Star } else { Link::Component };
        check(&rows, PairOptions { scope, max_length, ngram, threshold, link, keep, ..OPTIONS }, &preference);
    }
}

#[test]
fn a_contradiction_is_dropped_or_resolved_by_score() {
    let rows = plain(&[(1, 2), (2, 1), (1, 2)]);
    let result = run(&rows, OPTIONS).rows;
    assert_eq!((result.reason, result.keep), (vec![4, 4, 4], vec![false; 3]));
    let result = run(
        &rows,
        PairOptions {
            keep: Keep::Score(&[0.9, 0.6, 0.5]),
            ..OPTIONS
        },
    )
    .rows;
    assert_eq!((result.reason, result.keep), (vec![4, 4, 4], vec![true, false, false]));
    let tied = run(
        &rows,
        PairOptions {
            keep: Keep::Score(&[0.6, 0.6, 0.5]),
            ..OPTIONS
        },
    )
    .rows;
    assert_eq!(tied.keep, [false; 3]);
}

#[test]
fn a_cycle_loses_its_weakest_preference() {
    let rows = plain(&[(1, 2), (2, 3), (3, 1), (3, 4)]);
    let result = run(&rows, OPTIONS).rows;
    assert_eq!(
        (result.reason, result.keep),
        (vec![32, 32, 32, 0], vec![false, false, false, true])
    );
    let result = run(
        &rows,
        PairOptions {
            keep: Keep::Score(&[0.9, 0.8, 0.3, 0.1]),
            ..OPTIONS
        },
    )
    .rows;
    assert_eq!(
        (result.reason, result.keep),
        (vec![32, 32, 32, 0], vec![true, true, false, true])
    );
}

#[test]
fn a_row_that_is_contradicted_makes_no_cycle() {
    let result = run(&plain(&[(0, 1), (1, 2), (1, 3), (3, 1), (3, 0)]), OPTIONS).rows;
    assert_eq!(
        (result.reason, result.keep),
        (vec![0, 0, 4, 4, 0], vec![true, true, false, false, true])
    );
}

#[test]
fn an_edit_that_beats_its_original_contradicts_nothing() {
    // Sides that are nearly the same text match in both orders; the better fitting order counts.
    let edited = |last| Some((0..30).chain([last]).collect::<Vec<u32>>());
    let row = |c, r| Row {
        prompt: Some(vec![1]),
        chosen: edited(c),
        rejected: edited(r),
    };
    let options = PairOptions {
        ngram: 2,
        threshold: 0.8,
        ..OPTIONS
    };
    let result = run(&[row(50, 51), row(52, 51), row(51, 50)], options).rows;
    assert_eq!(result.reason, [4, 0, 4]);
    assert_eq!(result.keep, [false, true, false]);
}

#[test]
fn a_long_cycle_needs_no_stack() {
    let size = 50_000;
    let pairs: Vec<_> = (0..size).map(|i| (i, (i + 1) % size)).collect();
    let scores: Vec<f64> = (0..size).map(f64::from).collect();
    let result = run(
        &plain(&pairs),
        PairOptions {
            keep: Keep::Score(&scores),
            ..OPTIONS
        },
    )
    .rows;
    assert_eq!(result.keep.iter().filter(|keep| !**keep).count(), 1);
    assert!(!result.keep[0]);
}

#[test]
fn one_constant_side_stays_cheap() {
    let rows: Vec<Row> = (0..20_000)
        .map(|i| Row {
            prompt: Some(vec![i]),
            chosen: Some(vec![7, 8]),
            rejected: Some(vec![9]),
        })
        .collect();
    let result = run(
        &rows,
        PairOptions {
            scope: Scope::Global,
            threshold: 0.8,
            mode: Mode::Lsh,
            ..OPTIONS
        },
    );
    assert!(result.rows.keep.iter().all(|keep| *keep));
}
