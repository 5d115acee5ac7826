//! Recording the answers of a batch: whole, once, and under the numbers of the plan.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use ledger_support::{answers, count, planned, run_with_prompts};
use tso_core::Error;
use tso_core::ledger::{Answer, Ledger, Value};

#[test]
fn answers_get_the_numbers_of_their_draws() {
    let mut run = planned(3, 2, 4);
    let ledger = &mut run.ledger;
    for batch in [1, 0] {
        let plan = ledger.plan(1, "train").unwrap();
        let given = answers(plan.batch(batch).unwrap().len());
        ledger.record(1, "train", batch, &given).unwrap();
    }
    let plan = ledger.plan(1, "train").unwrap();
    let sql = "SELECT response_id, prompt_id, cell, seed, text, tokens FROM sampled ORDER BY response_id";
    let found = ledger.query(sql, &[]).unwrap().rows;
    let expected: Vec<Vec<Value>> = plan
        .iter()
        .map(|draw| {
            vec![
                Value::Int(draw.draw_id),
                Value::Text(draw.prompt_id.into()),
                Value::Text(draw.cell.into()),
                Value::Int(draw.seed.cast_signed()),
                Value::Text(format!("answer {}", (draw.draw_id - 1) % 4)),
                Value::Int(1),
            ]
        })
        .collect();
    assert_eq!(found, expected);
    assert!(ledger.is_done(1, "sample/train", 0).unwrap());
    assert!(ledger.check().unwrap().is_empty());
}

#[test]
fn a_batch_is_recorded_whole_and_once() {
    let mut run = planned(3, 2, 4);
    let ledger = &mut run.ledger;
    let with = |change: fn(&mut Answer)| {
        let mut given = answers(4);
        change(&mut given[3]);
        given
    };
    let cases = [
        (0, answers(3), "batch 0 has 4 draws, but 3 answers"),
        (2, answers(4), "batch 2 is not in the plan, which has 2 batches"),
        (-1, answers(4), "batch -1 is not in the plan"),
        (
            0,
            with(|answer| answer.token_ids.truncate(3)),
            "token ids of answer 3 are 3 bytes",
        ),
        (
            0,
            with(|answer| answer.finish_reason = "end".into()),
            "responses, row 3: CHECK",
        ),
    ];
    for (batch, given, says) in cases {
        let error = ledger.record(1, "train", batch, &given).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(count(ledger, "responses"), 0);
    assert_eq!(ledger.pending(1, "train").unwrap(), [0, 1]);
    ledger.record(1, "train", 0, &answers(4)).unwrap();
    let error = ledger.record(1, "train", 0, &answers(4)).unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert_eq!(count(ledger, "responses"), 4);
}

#[test]
fn what_is_not_planned_is_not_recorded() {
    let mut run = run_with_prompts(1, 0);
    let error = run.ledger.record(1, "train", 0, &[]).unwrap_err();
    assert!(error.to_string().contains("no plan of draws"), "{error}");
    let run = planned(1, 1, 1);
    let error = Ledger::open(&run.path, true)
        .unwrap()
        .record(1, "train", 0, &answers(1))
        .unwrap_err();
    assert!(error.to_string().contains("for reading only"), "{error}");
}
