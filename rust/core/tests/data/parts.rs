//! Deduplication in parts: each part against its definition. Their sum is held to `dedup_texts` by tests/test_parts.py.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tso_core::dedup::parts::{Reach, Sides, bands, couple, hashes, same, sketch, verify};
use tso_core::run::Stop;

use crate::{Batch, threshold, twin};

/// All couples of a bucket that the rule for crowds lets meet, and how many others there are.
fn met(bucket: &[u32], reach: Reach) -> (BTreeSet<(u32, u32)>, u64) {
    let (mut couples, mut left_out) = (BTreeSet::new(), 0);
    for (place, &member) in bucket.iter().enumerate() {
        for (earlier, &other) in bucket[..place].iter().enumerate() {
            let next = earlier + 1 == place;
            match reach {
                Reach::Neighbours if !next => {}
                Reach::Others if next => {}
                _ if place - earlier <= 256 || earlier < 16 => _ = couples.insert((other, member)),
                _ => left_out += 1,
            }
        }
    }
    (couples, left_out)
}

proptest! {
    #[test]
    fn couples_are_those_of_each_bucket(
        keys in prop::collection::vec(0u32..40, 0..900),
        prefix in 0u32..20,
        labels in prop::option::of(0i64..4),
        reach in prop::sample::select(vec![Reach::Neighbours, Reach::Others, Reach::All]),
    ) {
        // Few keys, spread over all bits but the first ones.
        let spread = |key: &u32| key.wrapping_mul(0x9E37_79B1) >> prefix;
        let keys: Vec<u32> = keys.iter().map(|&key| spread(&if key < 20 { 1 } else { key })).collect();
        let labels: Option<Vec<i64>> = labels.map(|many| (0..keys.len() as i64).map(|row| row * row % (many + 1)).collect());
        let found = couple(&keys, prefix, labels.as_deref(), reach, &Stop::default()).unwrap();
        let mut buckets: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        (0..).zip(&keys).for_each(|(member, &key)| buckets.entry(key).or_default().push(member));
        let (mut expected, mut left_out) = (BTreeSet::new(), 0);
        for bucket in buckets.values() {
            let (couples, more) = met(bucket, reach);
            expected.extend(couples);
            left_out += more;
        }
        if let Some(labels) = &labels {
            expected.retain(|&(a, b)| labels[a as usize] != labels[b as usize]);
        }
        prop_assert_eq!(found.couples.len(), expected.len());
        prop_assert_eq!(found.couples.into_iter().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(found.uncompared, left_out);
    }

    #[test]
    fn sides_are_compared_as_they_are(
        left in crate::texts(12), right in crate::texts(12), ngram in 1usize..5, threshold in threshold(),
    ) {
        let couples: Vec<(usize, usize)> = (0..left.len()).flat_map(|a| (0..right.len()).map(move |b| (a, b))).collect();
        let (a, b) = (Batch::new(&left), Batch::new(&right));
        let sides = Sides { left: &a.ragged(), right: &b.ragged(), couples: &couples };
        let equal = same(sides, &Stop::default()).unwrap();
        let near = verify(sides, ngram, threshold, &Stop::default()).unwrap();
        let mut expected = Vec::new();
        for (place, &(a, b)) in couples.iter().enumerate() {
            let (a, b) = (&left[a], &right[b]);
            prop_assert_eq!(equal[place], a.is_some() && a == b);
            if let (Some(a), Some(b)) = (a, b) && !a.is_empty() && !b.is_empty()
                && let Some(jaccard) = twin::near(a, b, ngram, threshold) {
                    expected.push((place, jaccard));
            }
        }
        prop_assert_eq!(near, expected);
    }

    #[test]
    fn rows_are_hashed_and_sketched_alike_in_any_block(texts in crate::texts(12), cut: prop::sample::Index, groups: bool) {
        let groups: Option<Vec<i64>> = groups.then(|| (0..texts.len() as i64).collect());
        let cut = cut.index(texts.len() + 1);
        let of = |from: usize, to: usize| {
            let batch = Batch::new(&texts[from..to]);
            let groups = groups.as_ref().map(|groups| &groups[from..to]);
            let keys = sketch(&batch.ragged(), groups, 2, 0.8, &Stop::default()).unwrap();
            let rows = to - from;
            let by_row: Vec<Vec<u32>> = (0..rows).map(|row| keys[row..].iter().step_by(rows).copied().collect()).collect();
            (hashes(&batch.ragged(), &Stop::default()).unwrap(), by_row)
        };
        let (whole, first, second) = (of(0, texts.len()), of(0, cut), of(cut, texts.len()));
        prop_assert!(whole.1.iter().all(|keys| keys.len() == bands(0.8).unwrap()));
        prop_assert_eq!(whole, ([first.0, second.0].concat(), [first.1, second.1].concat()));
    }
}
