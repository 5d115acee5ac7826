//! Writing units: all or nothing, every refusal named.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use std::collections::BTreeSet;

use ledger_support::{PROMPT, count, prompts, rows, run, run_with_prompts, text};
use proptest::prelude::*;
use tso_core::Error;
use tso_core::ledger::{Ledger, Rows, Value};

const METRIC: [&str; 4] = ["iteration", "step", "name", "value"];

fn metric(step: i64, value: f64) -> Vec<Value> {
    vec![Value::Int(1), Value::Int(step), text("loss"), Value::Real(value)]
}

/// Writes and expects a refusal whose message holds `says`, with nothing left behind.
fn refused(ledger: &mut Ledger, tables: &[Rows], says: &str) -> Error {
    let before = ledger.units(None, None).unwrap();
    let error = ledger.write(9, "x", 9, "", tables).unwrap_err();
    assert!(error.to_string().contains(says), "{says:?}: {error}");
    assert_eq!(ledger.units(None, None).unwrap(), before);
    error
}

#[test]
fn a_unit_is_written_once() {
    let mut run = run();
    let ledger = &mut run.ledger;
    let first = rows("metrics", &METRIC, vec![metric(1, 0.5), metric(2, f64::INFINITY)]);
    ledger.write(1, "train", 0, r#"{"n": 2}"#, &[first]).unwrap();
    assert!(ledger.is_done(1, "train", 0).unwrap());
    assert!(!ledger.is_done(1, "train", 1).unwrap());
    assert_eq!(ledger.info(1, "train", 0).unwrap().as_deref(), Some(r#"{"n": 2}"#));
    let again = ledger.write(1, "train", 0, "other", &[]).unwrap_err();
    assert!(matches!(again, Error::Conflict(_)), "{again:?}");
    assert!(again.to_string().contains("unit 0 of stage \"train\" in iteration 1"));
    assert_eq!(count(ledger, "metrics"), 2);
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let mut run = run_with_prompts(2, 0);
    let ledger = &mut run.ledger;
    let good = rows("metrics", &METRIC, vec![metric(1, 0.5)]);
    let cases = [
        (rows("respones", &["a"], vec![]), r#"the nearest is "responses""#),
        (rows("units", &["info"], vec![]), "by the store itself"),
        (rows("meta", &["key"], vec![]), "by the store itself"),
        (rows("plan_cells", &["cell"], vec![]), "by the store itself"),
        (rows("leases", &["batch"], vec![]), "by the store itself"),
        (rows("sqlite_schema", &["name"], vec![]), "unknown table"),
        (rows("metrics; DROP TABLE meta", &["name"], vec![]), "unknown table"),
        (
            rows("metrics", &["valeu"], vec![]),
            r#"column of table "metrics": "valeu"; the nearest is "value""#,
        ),
        (rows("metrics", &[], vec![]), "no columns"),
        (
            rows("metrics", &["name", "name"], vec![]),
            "metrics.name is given twice",
        ),
        (
            rows("metrics", &METRIC, vec![metric(5, 1.0), metric(6, f64::NAN)]),
            "metrics.value, row 1: is NaN",
        ),
        (
            rows("metrics", &METRIC, vec![vec![Value::Null]]),
            "1 values for 4 columns",
        ),
        (
            rows("metrics", &["step"], vec![vec![Value::Unsigned(u64::MAX)]]),
            "metrics.step, row 0: is beyond",
        ),
        (
            rows("metrics", &METRIC[..3], vec![metric(1, 1.0)[..3].to_vec()]),
            "NOT NULL",
        ),
        (
            rows("prompts", &["position"], vec![vec![text("one")]]),
            "prompts, row 0",
        ),
        (
            rows("prompts", &["position"], vec![vec![Value::Real(0.5)]]),
            "prompts, row 0",
        ),
        (
            rows(
                "checkpoints",
                &["iteration", "role", "path", "sha256"],
                vec![vec![Value::Int(1), text("king"), text(""), text("")]],
            ),
            "CHECK",
        ),
    ];
    for (bad, says) in cases {
        let error = refused(ledger, &[good.clone(), bad], says);
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
    assert_eq!(count(ledger, "metrics"), 0);
}

#[test]
fn rows_that_contradict_the_record_are_conflicts() {
    let mut run = run_with_prompts(2, 0);
    let ledger = &mut run.ledger;
    let twice = rows("metrics", &METRIC, vec![metric(1, 1.0), metric(1, 2.0)]);
    let error = refused(ledger, &[twice], "metrics, row 1: UNIQUE");
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    let columns = ["iteration", "position", "prompt_id"];
    let lost = rows(
        "batches",
        &columns,
        vec![vec![Value::Int(0), Value::Int(0), text("p7")]],
    );
    let error = refused(
        ledger,
        &[lost],
        "batches.prompt_id refers to 'p7', which is not in prompts",
    );
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert!(ledger.check().unwrap().is_empty());
}

#[test]
fn tables_of_a_unit_come_in_any_order() {
    let mut run = run();
    let columns = ["iteration", "position", "prompt_id"];
    let batch = rows(
        "batches",
        &columns,
        vec![vec![Value::Int(0), Value::Int(0), text("p1")]],
    );
    run.ledger.write(0, "prompts", 0, "", &[batch, prompts(2, 0)]).unwrap();
    assert!(run.ledger.check().unwrap().is_empty());
}

#[test]
fn values_come_back_as_they_were() {
    let mut run = run_with_prompts(1, 0);
    let columns = [
        "iteration",
        "prompt_id",
        "cell",
        "seed",
        "text",
        "token_ids",
        "tokens",
        "finish_reason",
    ];
    let response = |seed: &Value| {
        vec![
            Value::Int(0),
            text("p0"),
            text("c\0é"),
            seed.clone(),
            text(""),
            Value::Blob(vec![]),
            Value::Int(0),
            text("stop"),
        ]
    };
    let seeds = [
        Value::Unsigned(u64::MAX),
        Value::Int(i64::MAX),
        Value::Unsigned(1 << 63),
    ];
    let written = seeds.iter().map(response).collect();
    run.ledger
        .write(0, "x", 0, "", &[rows("responses", &columns, written)])
        .unwrap();
    let sql = "SELECT response_id, cell, seed FROM responses ORDER BY response_id";
    let found = run.ledger.query(sql, &[]).unwrap();
    let expected = [-1, i64::MAX, i64::MIN].iter().zip(1..);
    let expected: Vec<_> = expected
        .map(|(seed, id)| vec![Value::Int(id), text("c\0é"), Value::Int(*seed)])
        .collect();
    assert_eq!(found.rows, expected);
}

/// One unit of a made-up history: ids of prompts to insert, and whether a NaN is slipped in after them.
#[derive(Debug, Clone)]
struct Unit {
    unit: i64,
    ids: Vec<u8>,
    spoilt: bool,
}

fn unit() -> impl Strategy<Value = Unit> {
    (
        0_i64..6,
        prop::collection::vec(0_u8..40, 0..6),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(unit, ids, spoilt)| Unit { unit, ids, spoilt })
}

fn as_rows(unit: &Unit) -> Vec<Rows> {
    let row = |id: &u8| {
        let id = i64::from(*id);
        vec![
            Value::Text(format!("p{id}")),
            Value::Int(id),
            text("train"),
            text("[]"),
            text("[]"),
            text("{}"),
        ]
    };
    let metrics = if unit.spoilt {
        vec![metric(unit.unit, f64::NAN)]
    } else {
        vec![]
    };
    vec![
        rows("prompts", &PROMPT, unit.ids.iter().map(row).collect()),
        rows("metrics", &METRIC, metrics),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The twin: sets of units and of ids, where a unit counts if it is new, unspoilt and all its ids are new.
    #[test]
    fn a_unit_is_there_as_a_whole_or_not_at_all(history in prop::collection::vec(unit(), 1..12)) {
        let mut run = run();
        let mut units = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for unit in &history {
            let own: BTreeSet<u8> = unit.ids.iter().copied().collect();
            let fits = !units.contains(&unit.unit)
                && !unit.spoilt
                && own.len() == unit.ids.len()
                && own.is_disjoint(&ids);
            if fits {
                units.insert(unit.unit);
                ids.extend(own);
            }
            let written = run.ledger.write(0, "u", unit.unit, "", &as_rows(unit));
            prop_assert_eq!(written.is_ok(), fits);
            let found = run.ledger.query("SELECT position FROM prompts ORDER BY position", &[]).unwrap();
            let expected: Vec<_> = ids.iter().map(|id| vec![Value::Int(i64::from(*id))]).collect();
            prop_assert_eq!(found.rows, expected);
        }
        let found: Vec<i64> = run.ledger.units(None, None).unwrap().into_iter().map(|unit| unit.2).collect();
        prop_assert_eq!(found, units.into_iter().collect::<Vec<_>>());
    }
}
