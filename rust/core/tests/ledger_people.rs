//! People beside a run: who is given which pair, what they said, and what such a handle may not do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ledger_support::{Run, answers, count, planned, rows, text};
use proptest::prelude::*;
use tso_core::Error;
use tso_core::ledger::{Candidate, Ledger, Said, Value};

const HOUR: Duration = Duration::from_secs(3600);
const PAIRS: usize = 4;

/// Pairs `p0` to `p3`, and the run's writer, which stays at work.
fn run_with_pairs() -> (Run, Ledger) {
    let mut run = planned(PAIRS, 2, 2);
    for batch in 0..PAIRS as i64 {
        run.ledger.record(1, "train", batch, &answers(2)).unwrap();
    }
    let columns = [
        "pair_id",
        "iteration",
        "purpose",
        "position",
        "prompt_id",
        "response_a",
        "response_b",
        "similarity",
    ];
    let pair = |i: i64| {
        let prompt = Value::Text(format!("p{i}"));
        let (a, b) = (Value::Int(2 * i + 1), Value::Int(2 * i + 2));
        vec![
            prompt.clone(),
            Value::Int(1),
            text("train"),
            Value::Int(i),
            prompt,
            a,
            b,
            Value::Real(0.0),
        ]
    };
    let pairs = rows("pairs", &columns, (0..PAIRS as i64).map(pair).collect());
    run.ledger.write(1, "pair/train", 0, "{}", &[pairs]).unwrap();
    let people = Ledger::annotate(&run.path).unwrap();
    (run, people)
}

fn candidates(round: i64) -> Vec<Candidate> {
    let candidate = |i| Candidate {
        pair_id: format!("p{i}"),
        round,
        on_left: "a".into(),
    };
    (0..PAIRS).map(candidate).collect()
}

fn said(pair: &str, annotator: &str, word: &str) -> Said {
    Said {
        pair_id: pair.into(),
        annotator: annotator.into(),
        round: 0,
        said: word.into(),
        side: None,
        text: None,
        reason: String::new(),
        confidence: 1.0,
        takes_back: None,
        request: None,
        given: None,
    }
}

fn undo(pair: &str, annotator: &str, number: i64) -> Said {
    Said {
        takes_back: Some(number),
        ..said(pair, annotator, "undo")
    }
}

/// The pair that a person is given, who asks for pairs in their order.
fn given(people: &mut Ledger, annotator: &str, per_item: u32, hold: Duration) -> Option<String> {
    given_after(None, people, annotator, per_item, hold)
}

/// The same, asked for what the person holds before all others, as the page does.
fn given_after(
    held: Option<&String>,
    people: &mut Ledger,
    annotator: &str,
    per_item: u32,
    hold: Duration,
) -> Option<String> {
    let mut wanted = candidates(0);
    wanted.sort_by_key(|candidate| Some(&candidate.pair_id) != held);
    let number = people.assign(annotator, &wanted, per_item, hold).unwrap()?;
    let sql = "SELECT pair_id FROM assignments WHERE assignment = ?1";
    match &people.query(sql, &[Value::Int(number)]).unwrap().rows[0][0] {
        Value::Text(pair) => Some(pair.clone()),
        other => panic!("{other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, says: &str) {
    let error = result.unwrap_err();
    assert!(error.to_string().contains(says), "{says:?}: {error}");
}

#[test]
fn two_people_hold_different_pairs_until_they_judge_or_skip_them() {
    let (_run, mut people) = run_with_pairs();
    assert_eq!(given(&mut people, "ann", 1, HOUR).unwrap(), "p0");
    assert_eq!(given(&mut people, "bob", 1, HOUR).unwrap(), "p1");
    assert_eq!(given(&mut people, "ann", 1, HOUR).unwrap(), "p0", "still the same one");
    assert_eq!(count(&people, "assignments"), 2);
    people.say(&[said("p0", "ann", "skip")]).unwrap();
    assert_eq!(given(&mut people, "ann", 1, HOUR).unwrap(), "p2");
    people.say(&[said("p1", "bob", "tie")]).unwrap();
    assert_eq!(
        given(&mut people, "bob", 1, HOUR).unwrap(),
        "p0",
        "a skipped pair is another's"
    );
}

#[test]
fn a_pair_that_was_held_too_long_goes_to_another_and_a_late_verdict_counts_all_the_same() {
    let (_run, mut people) = run_with_pairs();
    let moment = Duration::from_millis(1);
    assert_eq!(given(&mut people, "ann", 1, moment).unwrap(), "p0");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(given(&mut people, "bob", 1, moment).unwrap(), "p0");
    people.say(&[said("p0", "bob", "a"), said("p0", "ann", "b")]).unwrap();
    assert_eq!(count(&people, "standing"), 2);
}

#[test]
fn an_undo_gives_the_pair_back_to_the_same_person() {
    let (_run, mut people) = run_with_pairs();
    given(&mut people, "ann", 1, HOUR).unwrap();
    let number = people.say(&[said("p0", "ann", "a")]).unwrap()[0];
    refused(people.say(&[undo("p0", "bob", number)]), "none of \"bob\" on pair p0");
    refused(people.say(&[undo("p1", "ann", number)]), "none of \"ann\" on pair p1");
    people.say(&[undo("p0", "ann", number)]).unwrap();
    refused(people.say(&[undo("p0", "ann", number)]), "UNIQUE");
    assert_eq!(given(&mut people, "ann", 1, HOUR).unwrap(), "p0");
    assert_eq!(given(&mut people, "bob", 1, HOUR).unwrap(), "p1");
    people.say(&[said("p0", "ann", "b")]).unwrap();
    assert_eq!((count(&people, "verdicts"), count(&people, "standing")), (3, 1));
}

#[test]
fn one_verdict_of_a_person_on_a_pair_in_a_round() {
    let (_run, mut people) = run_with_pairs();
    people.say(&[said("p0", "ann", "a")]).unwrap();
    refused(people.say(&[said("p0", "ann", "b")]), "has judged pair p0 already");
    let again = Said {
        round: 1,
        ..said("p0", "ann", "b")
    };
    people.say(&[again, said("p0", "bob", "b")]).unwrap();
    assert_eq!(count(&people, "standing"), 3);
}

#[test]
fn all_of_a_file_or_nothing() {
    let (_run, mut people) = run_with_pairs();
    let unknown = [said("p0", "ann", "a"), said("nowhere", "ann", "a")];
    refused(people.say(&unknown), "nowhere");
    let twice = [said("p0", "ann", "a"), said("p0", "ann", "b")];
    refused(people.say(&twice), "already");
    assert_eq!(count(&people, "verdicts"), 0);
}

#[test]
fn a_request_that_comes_again_is_the_verdict_of_before() {
    let (_run, mut people) = run_with_pairs();
    let named = |word: &str| Said {
        request: Some("r".into()),
        ..said("p0", "ann", word)
    };
    let first = people.say(&[named("a")]).unwrap();
    assert_eq!(people.say(&[named("a")]).unwrap(), first);
    refused(people.say(&[named("b")]), "recorded another verdict before");
    assert_eq!(count(&people, "verdicts"), 1);
}

#[test]
fn values_that_are_none_are_refused() {
    let (_run, mut people) = run_with_pairs();
    let plain = said("p0", "ann", "a");
    let edit = Said {
        text: Some("x".into()),
        side: Some("a".into()),
        ..said("p0", "ann", "edit")
    };
    for wrong in [
        said("p0", "ann", "left"),
        said("p0", "", "a"),
        said("p0", "ann", "edit"),
        said("p0", "ann", "undo"),
        Said {
            round: -1,
            ..plain.clone()
        },
        Said {
            confidence: 1.5,
            ..plain.clone()
        },
        Said {
            confidence: f64::NAN,
            ..plain.clone()
        },
        Said {
            text: Some("x".into()),
            ..plain.clone()
        },
        Said {
            side: Some("a".into()),
            ..plain.clone()
        },
        Said {
            side: Some("c".into()),
            ..edit.clone()
        },
    ] {
        let error = people.say(std::slice::from_ref(&wrong)).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{wrong:?}: {error:?}");
    }
    people.say(&[edit]).unwrap();
}

#[test]
fn such_a_handle_works_beside_the_writer_and_does_nothing_else() {
    let (mut run, mut people) = run_with_pairs();
    people.say(&[said("p0", "ann", "a")]).unwrap();
    run.ledger.write(1, "more", 0, "{}", &[]).unwrap();
    people.say(&[said("p1", "ann", "a")]).unwrap();
    refused(
        people.write(1, "x", 0, "{}", &[]),
        "for people's verdicts, and for nothing else",
    );
    refused(people.record(1, "train", 0, &answers(2)), "nothing else");
    refused(run.ledger.say(&[said("p2", "ann", "a")]), "open it with annotate");
    refused(
        run.ledger.assign("ann", &candidates(0), 1, HOUR),
        "open it with annotate",
    );
    let row = rows("verdicts", &["pair_id"], vec![vec![text("p0")]]);
    refused(run.ledger.write(1, "x", 0, "{}", &[row]), "written by the store itself");
    assert!(run.ledger.check().unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever people do in whatever order, a pair is with no more of them than was asked, by a plain count of who holds or
    /// has judged what; and whoever gets none could not have got any.
    #[test]
    fn no_pair_is_with_more_people_than_asked(per_item in 1_u32..4, steps in prop::collection::vec((0_usize..4, 0_u8..6), 1..60)) {
        let (_run, mut people) = run_with_pairs();
        let mut with: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new(); // pair -> who holds or has judged it
        let mut holds: BTreeMap<usize, String> = BTreeMap::new();
        let mut skipped: BTreeSet<(usize, String)> = BTreeSet::new();
        for (who, what) in steps {
            let name = format!("person {who}");
            let Some(pair) = given_after(holds.get(&who), &mut people, &name, per_item, HOUR) else {
                let free = (0..PAIRS).map(|i| format!("p{i}")).find(|pair| {
                    let known = with.get(pair).is_some_and(|people| people.contains(&who)) || skipped.contains(&(who, pair.clone()));
                    !known && with.get(pair).map_or(0, BTreeSet::len) < per_item as usize
                });
                prop_assert_eq!(free, None);
                continue;
            };
            prop_assert!(holds.get(&who).is_none_or(|held| *held == pair));
            with.entry(pair.clone()).or_default().insert(who);
            prop_assert!(with[&pair].len() <= per_item as usize);
            holds.insert(who, pair.clone());
            match what {
                0 => {} // goes away, and comes again
                1 => {
                    people.say(&[said(&pair, &name, "skip")]).unwrap();
                    holds.remove(&who);
                    with.entry(pair.clone()).or_default().remove(&who);
                    skipped.insert((who, pair));
                }
                2 => {
                    let number = people.say(&[said(&pair, &name, "a")]).unwrap()[0];
                    people.say(&[undo(&pair, &name, number)]).unwrap();
                }
                _ => {
                    people.say(&[said(&pair, &name, "b")]).unwrap();
                    holds.remove(&who);
                }
            }
        }
    }
}
