//! Deduplication of texts.

use proptest::prelude::*;
use tso_core::Error;
use tso_core::dedup::{Keep, Link, Mode, TextOptions, TextResult, dedup_texts};
use tso_core::ragged::{Ids, Offsets, Ragged, Texts};
use tso_core::run::{MOST_THREADS, Stop, on_threads};

use crate::twin::{self, Text};
use crate::{Batch, threshold};

const OPTIONS: TextOptions<'static> = TextOptions {
    ngram: 5,
    threshold: 0.8,
    mode: Mode::Lsh,
    link: Link::Component,
    keep: Keep::First,
    groups: None,
};

fn run(texts: &[Text], options: TextOptions<'_>, threads: usize) -> TextResult {
    let batch = Batch::new(texts);
    on_threads(Some(threads), || {
        dedup_texts(&batch.ragged(), options, &Stop::default())
    })
    .unwrap()
}

/// Links have to be verified, connect their clusters and nothing else.
fn check_edges(texts: &[Text], result: &TextResult, ngram: usize, threshold: f64) {
    let clusters = result
        .cluster
        .iter()
        .enumerate()
        .filter(|(row, cluster)| *row as i64 == **cluster)
        .count();
    assert_eq!(result.edges.len(), texts.len() - clusters);
    for edge in &result.edges {
        let (a, b) = (
            texts[edge.i as usize].as_ref().unwrap(),
            texts[edge.j as usize].as_ref().unwrap(),
        );
        assert!(edge.i < edge.j);
        assert_eq!(twin::near(a, b, ngram, threshold), Some(edge.jaccard));
        assert_eq!(result.cluster[edge.i as usize], result.cluster[edge.j as usize]);
    }
    assert!(result.edges.is_sorted_by_key(|edge| (edge.i, edge.j)));
}

proptest! {
    #[test]
    fn exact_mode_is_all_pairs(
        texts in crate::texts(24),
        groups in prop::collection::vec(0i64..2, 24),
        scores in prop::collection::vec(0u8..3, 24),
        (ngram, threshold, star, keep) in (1usize..5, threshold(), any::<bool>(), 0u8..3),
    ) {
        let groups = &groups[..texts.len()];
        let scores: Vec<f64> = scores[..texts.len()].iter().map(|&s| f64::from(s)).collect();
        let lengths = texts.iter().map(|text| text.as_ref().map_or(0, Vec::len) as f64).collect();
        let (keep, preference) = match keep {
            0 => (Keep::First, vec![0.0; texts.len()]),
            1 => (Keep::Longest, lengths),
            _ => (Keep::Score(&scores), scores.clone()),
        };
        let link = if star { Link::Star } else { Link::Component };
        let options = TextOptions { ngram, threshold, mode: Mode::Exact, link, keep, groups: Some(groups) };
        let result = run(&texts, options, 2);
        let expected = twin::texts::dedup(&texts, groups, ngram, threshold, star, &preference);
        prop_assert_eq!(&result.cluster, &expected.cluster);
        prop_assert_eq!(&result.keep, &expected.keep);
        prop_assert_eq!(&result.reason, &expected.reason);
        check_edges(&texts, &result, ngram, threshold);
    }

    #[test]
    fn lsh_links_only_what_is_similar(texts in crate::texts(24), ngram in 1usize..5, threshold in threshold(), star: bool) {
        let link = if star { Link::Star } else { Link::Component };
        let result = run(&texts, TextOptions { ngram, threshold, link, ..OPTIONS }, 2);
        check_edges(&texts, &result, ngram, threshold);
    }
}

/// 400 texts of 100 tokens and, for each, a copy with some tokens changed. Linear congruence is random enough.
fn planted(changes: usize) -> Vec<Text> {
    let mut state = 7u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    let mut texts: Vec<Text> = (0..400)
        .map(|_| Some((0..100).map(|_| next() % 30_000).collect()))
        .collect();
    for row in 0..400 {
        let mut copy = texts[row].clone().unwrap();
        (0..changes).for_each(|_| copy[next() as usize % 100] = 40_000);
        texts.push(Some(copy));
    }
    texts
}

#[test]
fn lsh_finds_what_exact_finds_on_planted_copies() {
    for changes in [1, 2, 3, 20] {
        let texts = planted(changes);
        let exact = run(
            &texts,
            TextOptions {
                mode: Mode::Exact,
                ..OPTIONS
            },
            1,
        );
        let lsh = run(&texts, OPTIONS, 1);
        assert_eq!(lsh.cluster, exact.cluster, "{changes} changes");
        assert_eq!(exact.keep.iter().filter(|keep| !**keep).count() > 0, changes < 20);
    }
}

#[test]
fn threads_change_nothing() {
    let texts = planted(2);
    for mode in [Mode::Lsh, Mode::Exact] {
        let one = run(&texts, TextOptions { mode, ..OPTIONS }, 1);
        for threads in [2, 8] {
            let more = run(&texts, TextOptions { mode, ..OPTIONS }, threads);
            assert_eq!((one.cluster.clone(), one.edges.clone()), (more.cluster, more.edges));
        }
    }
}

#[test]
fn null_and_empty_join_no_near_duplicates() {
    let texts = [None, Some(vec![]), None, Some(vec![]), Some(vec![1])];
    let result = run(&texts, OPTIONS, 1);
    assert_eq!(result.cluster, [0, 1, 2, 1, 4]);
    assert_eq!(result.reason, [0, 0, 0, 1, 0]);
}

#[test]
fn a_short_text_is_one_shingle() {
    let texts = [Some(vec![1, 2]), Some(vec![1, 2, 3]), Some(vec![1, 2])];
    assert_eq!(run(&texts, OPTIONS, 1).cluster, [0, 1, 0]);
}

#[test]
fn a_chain_swallows_unlike_texts_only_as_component() {
    let texts: Vec<Text> = (0..8).map(|i| Some((i..i + 20).collect())).collect();
    let options = TextOptions {
        ngram: 1,
        threshold: 0.9,
        mode: Mode::Exact,
        ..OPTIONS
    };
    assert_eq!(run(&texts, options, 1).cluster, [0; 8]);
    let star = run(
        &texts,
        TextOptions {
            link: Link::Star,
            ..options
        },
        1,
    );
    assert_eq!(star.cluster, [0, 0, 2, 2, 4, 4, 6, 6]);
}

#[test]
fn many_copies_and_a_crowded_bucket_stay_cheap() {
    // 2,000 equal texts collapse before any bucket; 2,000 nearly equal ones are one bucket in most bands.
    let mut texts: Vec<Text> = vec![Some((0..50).collect()); 2000];
    texts.extend((0..2000).map(|i| Some((100..300).chain([1000 + i]).collect())));
    let result = run(&texts, OPTIONS, 2);
    assert_eq!(result.cluster.iter().filter(|&&cluster| cluster == 0).count(), 2000);
    assert_eq!(result.cluster.iter().filter(|&&cluster| cluster == 2000).count(), 2000);
    assert!(result.uncompared > 0, "the bucket was not crowded");
}

/// Ids that nobody has checked before are refused by the call itself, by the first bad row, on any number of threads.
#[test]
fn ids_are_checked_on_the_way() {
    let mut ids = vec![7; 6000];
    (ids[2503], ids[5001]) = (-1, -2);
    let offsets: Vec<i64> = (0..=2000).map(|row| 3 * row).collect();
    let batch = Ragged::unchecked(Ids::I32(&ids), Offsets::I64(&offsets), None).unwrap();
    for (mode, threads) in [(Mode::Lsh, 1), (Mode::Lsh, 2), (Mode::Exact, 2)] {
        let options = TextOptions { mode, ..OPTIONS };
        let found = on_threads(Some(threads), || dedup_texts(&batch, options, &Stop::default()));
        assert!(matches!(found, Err(Error::Invalid(message)) if message.starts_with("row 834 holds token id -1")));
    }
}

/// Rows beside members, at all places of a block: null, empty and copied ones meet nobody.
#[test]
fn rows_that_are_no_members_change_nothing() {
    let near = |row: u32| -> Text {
        Some(
            (0..60)
                .map(|token| 100 * (row / 2) + token + row % 2 * (token / 59))
                .collect(),
        )
    };
    let members: Vec<Text> = (0..600).map(near).collect();
    let mut mixed = Vec::new();
    for (row, text) in members.iter().enumerate() {
        mixed.extend([text.clone(), None, Some(vec![]), members[row / 2].clone()]);
    }
    let (plain, mixed) = (run(&members, OPTIONS, 2), run(&mixed, OPTIONS, 2));
    let every_fourth: Vec<i64> = mixed.cluster.iter().step_by(4).map(|cluster| cluster / 4).collect();
    assert_eq!(every_fourth, plain.cluster);
    assert!(plain.keep.iter().filter(|keep| !**keep).count() > 250);
}

#[test]
fn bad_options_and_stopping() {
    let batch = Batch::new(&[Some(vec![1]), Some(vec![2])]);
    let ragged = batch.ragged();
    let call = |options| dedup_texts(&ragged as &dyn Texts, options, &Stop::default());
    let bad = [
        TextOptions { ngram: 0, ..OPTIONS },
        TextOptions {
            threshold: 0.0,
            ..OPTIONS
        },
        TextOptions {
            threshold: f64::NAN,
            ..OPTIONS
        },
        TextOptions {
            threshold: 1.1,
            ..OPTIONS
        },
        TextOptions {
            groups: Some(&[1]),
            ..OPTIONS
        },
        TextOptions {
            keep: Keep::Score(&[1.0]),
            ..OPTIONS
        },
        TextOptions {
            keep: Keep::Score(&[1.0, f64::NAN]),
            ..OPTIONS
        },
    ];
    for options in bad {
        assert!(matches!(call(options), Err(Error::Invalid(_))), "{options:?}");
    }
    let stop = Stop::default();
    stop.request();
    assert!(matches!(dedup_texts(&ragged, OPTIONS, &stop), Err(Error::Stopped)));
    for threads in [0, MOST_THREADS + 1, usize::MAX] {
        assert!(matches!(on_threads(Some(threads), || Ok(())), Err(Error::Invalid(_))));
    }
}
