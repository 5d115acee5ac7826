//! Budgets of cells against a twin that hands out one draw at a time.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use tso_core::Error;
use tso_core::ledger::allot;

/// For whole weights: who lies below its floor gets the floor and sits out, one cell after the other; the rest is
/// rounded down, and what is left goes out one by one to the largest remainder.
fn by_hand(total: u64, weights: &[u64], floors: &[u64]) -> Vec<u64> {
    let mut sharing = vec![true; weights.len()];
    loop {
        let of = |values: &[u64], wanted: bool| -> u64 {
            (0..values.len())
                .filter(|i| sharing[*i] == wanted)
                .map(|i| values[i])
                .sum()
        };
        let (rest, sum) = (total - of(floors, false), of(weights, true));
        if let Some(below) = (0..weights.len()).find(|i| sharing[*i] && rest * weights[*i] < floors[*i] * sum) {
            sharing[below] = false;
            continue;
        }
        let mut given: Vec<u64> = (0..weights.len())
            .map(|i| if sharing[i] { rest * weights[i] / sum } else { floors[i] })
            .collect();
        let mut left: Vec<u64> = (0..weights.len())
            .map(|i| if sharing[i] { rest * weights[i] % sum } else { 0 })
            .collect();
        while given.iter().sum::<u64>() < total {
            let largest = *left.iter().max().unwrap();
            let next = left.iter().position(|rest| *rest == largest).unwrap();
            given[next] += 1;
            left[next] = 0;
        }
        return given;
    }
}

fn cells() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0_u64..60, 0_u64..12), 1..8).prop_filter("a weight", |cells| cells.iter().any(|c| c.0 > 0))
}

proptest! {
    #[test]
    fn whole_weights_agree_with_the_twin(cells in cells(), more in 0_u64..200) {
        let (weights, floors): (Vec<u64>, Vec<u64>) = cells.into_iter().unzip();
        let total = floors.iter().sum::<u64>() + more;
        let found = allot(
            total as u32,
            &weights.iter().map(|w| *w as f64).collect::<Vec<_>>(),
            &floors.iter().map(|f| *f as u32).collect::<Vec<_>>(),
        ).unwrap();
        let expected = by_hand(total, &weights, &floors);
        prop_assert_eq!(found.into_iter().map(u64::from).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn any_weights_keep_the_total_and_the_floors(
        cells in prop::collection::vec((0.0..=f64::MAX, 0_u32..50), 1..20),
        more in 0_u32..10_000,
    ) {
        let (weights, floors): (Vec<f64>, Vec<u32>) = cells.into_iter().unzip();
        prop_assume!(weights.iter().any(|w| *w > 0.0));
        let total = floors.iter().sum::<u32>() + more;
        let found = allot(total, &weights, &floors).unwrap();
        prop_assert_eq!(found.iter().sum::<u32>(), total);
        for (i, (given, floor)) in found.iter().zip(&floors).enumerate() {
            prop_assert!(given >= floor);
            // Above its floor, nobody gets more than a draw more than one with the same floor and a larger weight.
            for (j, other) in found.iter().enumerate() {
                prop_assert!(weights[i] > weights[j] || given <= floor || *given <= other + 1);
            }
        }
        let scaled: Vec<f64> = weights.iter().map(|w| w / 1024.0).collect();
        prop_assert_eq!(allot(total, &scaled, &floors).unwrap(), found);
    }
}

#[test]
fn a_few_by_hand() {
    for (total, weights, floors, expected) in [
        (10, vec![1.0, 1.0, 1.0], vec![0, 0, 0], vec![4, 3, 3]),
        (10, vec![0.1, 0.2, 0.7], vec![0, 0, 0], vec![1, 2, 7]),
        (10, vec![0.0, 0.0, 5.0], vec![2, 0, 1], vec![2, 0, 8]),
        (10, vec![8.0, 1.0, 1.0], vec![0, 3, 0], vec![6, 3, 1]),
        (6, vec![9.0, 1.0], vec![3, 3], vec![3, 3]),
        (5, vec![-0.0, f64::MIN_POSITIVE / 4.0], vec![0, 0], vec![0, 5]),
        (
            u32::MAX,
            vec![f64::MAX, f64::MAX],
            vec![0, 0],
            vec![u32::MAX / 2 + 1, u32::MAX / 2],
        ),
        (0, vec![1.0], vec![0], vec![0]),
    ] {
        assert_eq!(allot(total, &weights, &floors).unwrap(), expected, "{weights:?}");
    }
}

#[test]
fn what_cannot_be_divided_is_refused() {
    for (total, weights, floors, says) in [
        (
            5,
            vec![1.0, 1.0],
            vec![3, 3],
            "the floors add up to 6 draws, more than the 5",
        ),
        (5, vec![1.0, -1.0], vec![0, 0], "weight 1 is -1"),
        (5, vec![f64::NAN], vec![0], "weight 0 is NaN"),
        (5, vec![f64::INFINITY], vec![0], "weight 0 is inf"),
        (5, vec![0.0, 0.0], vec![1, 1], "no weight is above 0"),
        (0, vec![], vec![], "no weight is above 0"),
        (5, vec![1.0], vec![], "1 weights for 0 floors"),
        (5, vec![1.0; 3], vec![u32::MAX; 3], "more than the 5"),
    ] {
        let error = allot(total, &weights, &floors).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
}
