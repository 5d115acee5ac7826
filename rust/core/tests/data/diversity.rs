//! Diversity scores and selection.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tso_core::Error;
use tso_core::diversity::{
    Candidates, GroupScores, Method, Options, PickOptions, Picked, Scores, diversity, is_small, novelty,
    pair_similarity, pick_pairs, repetition, select_diverse,
};
use tso_core::ragged::Texts;
use tso_core::run::{Stop, on_threads};

use crate::Batch;
use crate::twin::{self, Text};

const ALL: Options<'static> = Options {
    scores: Scores {
        distinct: true,
        entropy: true,
        self_bleu: true,
        jaccard: true,
        vendi: true,
    },
    ngram: 2,
    order: 1.0,
    history: None,
};

fn scores(texts: &[Text], groups: &[i64], options: Options<'_>, threads: usize) -> Vec<GroupScores> {
    let batch = Batch::new(texts);
    on_threads(Some(threads), || {
        diversity(&batch.ragged(), groups, options, &Stop::default())
    })
    .unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-12
}

fn check_group(score: &GroupScores, texts: &[Vec<u32>], Options { ngram, order, .. }: Options<'_>) {
    for n in 1..=4 {
        let grams: Vec<&[u32]> = texts.iter().flat_map(|text| text.windows(n)).collect();
        let mut counts = BTreeMap::new();
        grams.iter().for_each(|gram| *counts.entry(gram).or_insert(0.0) += 1.0);
        let all = grams.len() as f64;
        let entropy: f64 = counts
            .values()
            .map(|count: &f64| -(count / all) * (count / all).log2())
            .sum();
        assert!(close(score.distinct[n - 1], counts.len() as f64 / all));
        assert!(close(score.entropy[n - 1], if all > 0.0 { entropy } else { f64::NAN }));
    }
    let mut similarity = vec![];
    for (i, a) in texts.iter().enumerate() {
        similarity.extend(texts[..i].iter().map(|b| twin::jaccard(a, b, ngram)));
    }
    assert!(close(
        score.jaccard,
        similarity.iter().sum::<f64>() / similarity.len() as f64
    ));
    let bleu = if texts.len() < 2 {
        f64::NAN
    } else {
        twin::bleu::self_bleu(texts)
    };
    assert!(close(score.self_bleu, bleu), "{} {bleu}", score.self_bleu);
    let vendi = twin::vendi::vendi(texts, order);
    let equal = (score.vendi.is_nan() && vendi.is_nan()) || (score.vendi - vendi).abs() < 1e-9;
    assert!(equal, "{} {vendi}", score.vendi);
}

/// 1 less the similarity to the most similar row of the history.
fn twin_novelty(text: &[u32], history: &[Text], ngram: usize) -> f64 {
    let similar = history.iter().flatten().map(|row| twin::jaccard(text, row, ngram));
    1.0 - similar.fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn scores_match_the_twin(
        texts in crate::texts(16),
        groups in prop::collection::vec(-1i64..2, 16),
        ngram in 1usize..4,
        order in prop::sample::select(vec![0.5, 1.0, 1.05, 2.0, 30.0, f64::INFINITY]),
    ) {
        let groups = &groups[..texts.len()];
        let options = Options { ngram, order, ..ALL };
        let result = scores(&texts, groups, options, 2);
        let names: BTreeSet<i64> = groups.iter().copied().collect();
        prop_assert_eq!(result.iter().map(|score| score.group).collect::<Vec<_>>(), names.into_iter().collect::<Vec<_>>());
        for score in result {
            let members = texts.iter().zip(groups).filter(|(_, group)| **group == score.group);
            let members: Vec<Vec<u32>> = members.filter_map(|(text, _)| text.clone()).collect();
            prop_assert_eq!(score.responses, members.len() as i64);
            check_group(&score, &members, options);
        }
    }

    #[test]
    fn selection_matches_the_twin(texts in crate::texts(14), quality in prop::collection::vec(0u8..4, 14), k in 0usize..16, ngram in 1usize..4) {
        let quality: Vec<f64> = quality[..texts.len()].iter().map(|&q| f64::from(q)).collect();
        let batch = Batch::new(&texts);
        let select = |method| select_diverse(&batch.ragged(), k, method, Some(&quality), ngram, &Stop::default()).unwrap();
        let by_determinants: Vec<i64> =
            twin::dpp::choose(&texts, &quality, k, ngram).into_iter().map(|row| row as i64).collect();
        prop_assert_eq!(select(Method::Dpp), by_determinants);
        let mut expected: Vec<usize> = vec![];
        while expected.len() < k.min(texts.iter().flatten().count()) {
            let value = |row: usize| {
                let text = texts[row].as_ref().unwrap();
                let distance = expected.iter().map(|&c| 1.0 - twin::jaccard(texts[c].as_ref().unwrap(), text, ngram));
                quality[row] * distance.fold(1.0, f64::min)
            };
            let free = (0..texts.len()).filter(|row| texts[*row].is_some() && !expected.contains(row));
            expected.push(free.reduce(|a, b| if value(b) > value(a) { b } else { a }).unwrap());
        }
        prop_assert_eq!(select(Method::MaxMin), expected.into_iter().map(|row| row as i64).collect::<Vec<_>>());
    }

    #[test]
    fn novelty_matches_the_twin(texts in crate::texts(16), split in 0usize..16, ngram in 1usize..4) {
        let (new, old) = texts.split_at(split.min(texts.len()));
        // Either side may be the one whose shingles are numbered.
        for (new, old) in [(new, old), (old, new)] {
            let (batch, history) = (Batch::new(new), Batch::new(old));
            let found = novelty(&batch.ragged(), &history.ragged(), ngram, &Stop::default()).unwrap();
            let expected: Vec<f64> = new
                .iter()
                .map(|text| text.as_ref().map_or(f64::NAN, |text| twin_novelty(text, old, ngram)))
                .collect();
            prop_assert_eq!(found.len(), expected.len());
            prop_assert!(found.iter().zip(&expected).all(|(a, b)| close(*a, *b)), "{:?} {:?}", found, expected);
            let history = history.ragged();
            let options = Options { ngram, history: Some(&history), ..ALL };
            for score in scores(new, &vec![0; new.len()], options, 2) {
                let known: Vec<f64> = expected.iter().copied().filter(|value| !value.is_nan()).collect();
                prop_assert!(close(score.novelty, known.iter().sum::<f64>() / known.len() as f64));
            }
        }
    }

    #[test]
    fn picks_match_the_twin(
        texts in crate::texts(12),
        candidates in prop::collection::vec((0i64..3, 0usize..12, 0usize..12, 0u8..4), 0..20),
        (max_pairs, max_uses, ngram) in (0usize..5, 0usize..4, 1usize..4),
    ) {
        let rows = texts.len();
        let candidates: Vec<_> = candidates.into_iter().filter(|c| c.1 < rows && c.2 < rows).collect();
        let options = PickOptions { max_pairs, max_uses, ngram };
        prop_assert_eq!(pick(&texts, &candidates, options), twin_pick(&texts, &candidates, options));
    }

    #[test]
    fn similarity_and_repetition_match_the_twin(texts in crate::texts(12), ngram in 1usize..4) {
        let batch = Batch::new(&texts);
        let rows: Vec<i64> = (0..texts.len() as i64).collect();
        let turned: Vec<i64> = rows.iter().rev().copied().collect();
        let found = pair_similarity(&batch.ragged(), &rows, &turned, ngram, &Stop::default()).unwrap();
        for (found, (a, b)) in found.iter().zip(texts.iter().zip(texts.iter().rev())) {
            prop_assert!(close(*found, a.as_ref().zip(b.as_ref()).map_or(f64::NAN, |(a, b)| twin::jaccard(a, b, ngram))));
        }
        let found = repetition(&batch.ragged(), ngram, &Stop::default()).unwrap();
        for (found, text) in found.iter().zip(&texts) {
            let expected = text.as_ref().map_or(f64::NAN, |text| match text.windows(ngram).count() {
                0 => 0.0,
                all => 1.0 - twin::shingles(text, ngram).len() as f64 / all as f64,
            });
            prop_assert!(close(*found, expected));
        }
    }
}

type Candidate = (i64, usize, usize, u8);

fn pick(texts: &[Text], candidates: &[Candidate], options: PickOptions) -> Picked {
    let batch = Batch::new(texts);
    let column = |part: fn(&Candidate) -> i64| candidates.iter().map(part).collect::<Vec<_>>();
    let quality: Vec<f64> = candidates.iter().map(|c| f64::from(c.3)).collect();
    let (prompt, a, b) = (column(|c| c.0), column(|c| c.1 as i64), column(|c| c.2 as i64));
    let candidates = Candidates {
        prompt: &prompt,
        a: &a,
        b: &b,
        quality: &quality,
    };
    pick_pairs(&batch.ragged(), candidates, options, &Stop::default()).unwrap()
}

fn twin_pick(texts: &[Text], candidates: &[Candidate], options: PickOptions) -> Picked {
    let similar = |a: usize, b: usize| match (&texts[a], &texts[b]) {
        (Some(a), Some(b)) => twin::jaccard(a, b, options.ngram),
        _ => 1.0,
    };
    let mut prompts: Vec<i64> = vec![];
    candidates
        .iter()
        .filter(|c| !prompts.contains(&c.0))
        .map(|c| c.0)
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|p| {
            if !prompts.contains(&p) {
                prompts.push(p);
            }
        });
    let mut all = Picked::default();
    for prompt in prompts {
        let mut picked: Vec<usize> = vec![];
        while picked.len() < options.max_pairs {
            let uses = |row: usize| {
                picked
                    .iter()
                    .map(|&p| usize::from(candidates[p].1 == row) + usize::from(candidates[p].2 == row))
                    .sum::<usize>()
            };
            let value = |i: usize| {
                let (_, a, b, quality) = candidates[i];
                let alike = picked.iter().map(|&p| {
                    let (c, d) = (candidates[p].1, candidates[p].2);
                    (similar(c, a) + similar(d, b)).max(similar(c, b) + similar(d, a)) / 2.0
                });
                f64::from(quality) * (1.0 - similar(a, b)) * (1.0 - alike.fold(0.0, f64::max))
            };
            let free = (0..candidates.len()).filter(|&i| {
                let (p, a, b, _) = candidates[i];
                p == prompt && uses(a) < options.max_uses && uses(b) < options.max_uses && value(i) > 0.0
            });
            let Some(best) = free.reduce(|x, y| if value(y) > value(x) { y } else { x }) else {
                break;
            };
            picked.push(best);
        }
        all.jaccard
            .extend(picked.iter().map(|&i| similar(candidates[i].1, candidates[i].2)));
        all.index.extend(picked.iter().map(|&i| i as i64));
    }
    all
}

#[test]
fn threads_change_nothing() {
    let texts: Vec<Text> = (0..1300u32).map(|i| Some((i % 7..i % 7 + i % 31).collect())).collect();
    let groups: Vec<i64> = (0..1300).map(|i| i % 31).collect();
    let history = Batch::new(&texts[200..]);
    let history = history.ragged();
    let options = Options {
        history: Some(&history),
        ..ALL
    };
    let one = format!("{:?}", scores(&texts, &groups, options, 1));
    assert_eq!(one, format!("{:?}", scores(&texts, &groups, options, 2)));
    assert_eq!(one, format!("{:?}", scores(&texts, &groups, options, 8)));
}

#[test]
fn a_group_scores_the_same_alone_on_the_calling_thread() {
    let texts: Vec<Text> = (0..1300u32).map(|i| Some((i % 7..i % 7 + i % 31).collect())).collect();
    let groups: Vec<i64> = (0..1300).map(|i| i / 50).collect();
    assert!(!is_small(1300, 0) && is_small(50, 50 * 38));
    for (score, members) in scores(&texts, &groups, ALL, 2).iter().zip(texts.chunks(50)) {
        let alone = scores(members, &vec![score.group; members.len()], ALL, 1);
        assert_eq!(format!("{alone:?}"), format!("[{score:?}]"));
    }
}

#[test]
fn as_many_choices_as_there_are_columns_in_a_block() {
    // More texts than one thread takes at a time, of which half are copies of the others.
    let texts: Vec<Text> = (0..5000u32).map(|i| Some(vec![i % 2500, i % 50, i % 30])).collect();
    let batch = Batch::new(&texts);
    let select = |threads| {
        on_threads(Some(threads), || {
            select_diverse(&batch.ragged(), 40, Method::Dpp, None, 1, &Stop::default())
        })
        .unwrap()
    };
    let chosen = select(1);
    assert_eq!(chosen, select(8));
    let mut distinct: Vec<i64> = chosen.iter().map(|row| row % 2500).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 40);
}

#[test]
fn a_stop_ends_a_large_kernel() {
    let texts: Vec<Text> = (0..600u32).map(|i| Some(vec![i])).collect();
    let batch = Batch::new(&texts);
    let stop = Stop::default();
    stop.request();
    let found = diversity(&batch.ragged(), &vec![0; 600], ALL, &stop);
    assert!(matches!(found, Err(Error::Stopped)));
    assert!(matches!(
        novelty(&batch.ragged(), &batch.ragged(), 1, &stop),
        Err(Error::Stopped)
    ));
    for method in [Method::MaxMin, Method::Dpp] {
        let found = select_diverse(&batch.ragged(), 3, method, None, 1, &stop);
        assert!(matches!(found, Err(Error::Stopped)));
    }
}

#[test]
fn bad_columns_are_refused() {
    let batch = Batch::new(&[Some(vec![1]), Some(vec![2])]);
    let texts = batch.ragged();
    let stop = Stop::default();
    let invalid = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Invalid(_))));
    let scored = |groups: &[i64], options| diversity(&texts as &dyn Texts, groups, options, &stop).map(drop);
    invalid(scored(&[1], ALL));
    invalid(scored(&[1, 1], Options { ngram: 0, ..ALL }));
    for order in [0.0, -1.0, f64::NAN] {
        invalid(scored(&[1, 1], Options { order, ..ALL }));
    }
    invalid(novelty(&texts, &texts, 0, &stop).map(drop));
    let crowd = Batch::new(&vec![Some(vec![1]); 10_001]);
    invalid(diversity(&crowd.ragged(), &vec![7; 10_001], ALL, &stop).map(drop));
    invalid(pair_similarity(&texts, &[0], &[2], 2, &stop).map(drop));
    invalid(pair_similarity(&texts, &[-1], &[0], 2, &stop).map(drop));
    invalid(pair_similarity(&texts, &[0], &[], 2, &stop).map(drop));
    invalid(select_diverse(&texts, 1, Method::MaxMin, Some(&[1.0]), 2, &stop).map(drop));
    invalid(select_diverse(&texts, 1, Method::MaxMin, Some(&[1.0, -1.0]), 2, &stop).map(drop));
    invalid(repetition(&texts, 0, &stop).map(drop));
}
