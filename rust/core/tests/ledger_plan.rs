//! The plan of draws.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use ledger_support::{answers, count, rows, run_with_prompts, text};
use tso_core::Error;
use tso_core::ledger::{CellRequest, Draw, Ledger, Plan, PlanRequest, Value, draw_seed};
use tso_core::run::Stop;

fn cell(name: &str, draws: u32) -> CellRequest {
    CellRequest {
        cell: name.into(),
        draws,
        prompts: None,
        model: None,
    }
}

fn own(name: &str, prompts: &[&str]) -> CellRequest {
    let prompts = prompts.iter().map(ToString::to_string).collect();
    CellRequest {
        prompts: Some(prompts),
        ..cell(name, 1)
    }
}

fn all(plan: &Plan) -> Vec<Draw<'_>> {
    plan.iter().collect()
}

fn request() -> PlanRequest {
    PlanRequest {
        iteration: 1,
        purpose: "train".into(),
        run_seed: 17,
        prompts: ["p2", "p0", "p1"].map(String::from).into(),
        cells: vec![cell("reference", 2), cell("human", 0), cell("policy", 1)],
        batch_size: 4,
    }
}

#[test]
fn a_plan_goes_by_cell_then_prompt_then_draw() {
    let mut run = run_with_prompts(3, 0);
    let plan = run.ledger.plan_draws(request(), &Stop::default()).unwrap();
    let told: Vec<_> = plan
        .iter()
        .map(|d| (d.draw_id, d.prompt_id, d.cell, d.draw, d.batch))
        .collect();
    assert_eq!(
        told,
        [
            (1, "p2", "reference", 0, 0),
            (2, "p2", "reference", 1, 0),
            (3, "p0", "reference", 0, 0),
            (4, "p0", "reference", 1, 0),
            (5, "p1", "reference", 0, 1),
            (6, "p1", "reference", 1, 1),
            (7, "p2", "policy", 0, 2),
            (8, "p0", "policy", 0, 2),
            (9, "p1", "policy", 0, 2),
        ]
    );
    for draw in plan.iter() {
        assert_eq!(draw.seed, draw_seed(17, 1, draw.prompt_id, draw.cell, draw.draw));
    }
    let info = run.ledger.info(1, "plan/train", 0).unwrap();
    assert_eq!(info.as_deref(), Some(r#"{"draws": 9, "batches": 3}"#));
}

#[test]
fn a_plan_is_laid_down_once() {
    let mut run = run_with_prompts(3, 1);
    let plan = run.ledger.plan_draws(request(), &Stop::default()).unwrap();
    let held = PlanRequest {
        purpose: "evaluate".into(),
        prompts: vec!["p3".into()],
        ..request()
    };
    let second = run.ledger.plan_draws(held.clone(), &Stop::default()).unwrap();
    assert_eq!(
        (second.first_id(), all(&second)[0].batch),
        (10, 0),
        "ids run over the whole run"
    );
    assert_eq!(
        all(&run.ledger.plan_draws(request(), &Stop::default()).unwrap()),
        all(&plan)
    );
    assert_eq!(
        all(&run.ledger.plan_draws(held, &Stop::default()).unwrap()),
        all(&second)
    );
    let others = [
        PlanRequest {
            run_seed: 18,
            ..request()
        },
        PlanRequest {
            batch_size: 5,
            ..request()
        },
        PlanRequest {
            prompts: vec!["p0".into()],
            ..request()
        },
        PlanRequest {
            cells: vec![cell("reference", 2)],
            ..request()
        },
        PlanRequest {
            cells: vec![],
            ..request()
        },
    ];
    for other in others {
        let error = run.ledger.plan_draws(other, &Stop::default()).unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    }
    assert_eq!(count(&run.ledger, "plans"), 2);
    let path = run.path.clone();
    drop(run.ledger);
    let mut reader = Ledger::open(&path, true).unwrap();
    let again = reader.plan_draws(request(), &Stop::default()).unwrap();
    assert_eq!(all(&again), all(&plan), "seeds survive the store");
    let in_other_words = PlanRequest {
        cells: vec![cell("reference", 2), cell("policy", 1)],
        ..request()
    };
    assert_eq!(
        all(&reader.plan_draws(in_other_words, &Stop::default()).unwrap()),
        all(&plan)
    );
}

#[test]
fn a_cell_may_answer_some_prompts_only() {
    let mut run = run_with_prompts(3, 0);
    let some = PlanRequest {
        cells: vec![own("human", &["p0", "p2"]), cell("policy", 1)],
        batch_size: 2,
        ..request()
    };
    let plan = run.ledger.plan_draws(some.clone(), &Stop::default()).unwrap();
    let told: Vec<_> = plan.iter().map(|d| (d.prompt_id, d.cell, d.batch)).collect();
    assert_eq!(
        told,
        [
            ("p2", "human", 0),
            ("p0", "human", 0),
            ("p2", "policy", 1),
            ("p0", "policy", 1),
            ("p1", "policy", 2)
        ]
    );
    assert_eq!(all(&run.ledger.plan_draws(some, &Stop::default()).unwrap()), all(&plan));
}

#[test]
fn cells_of_one_model_share_batches_prompt_by_prompt() {
    let mut run = run_with_prompts(3, 0);
    let of = |model: &str, cell: CellRequest| CellRequest {
        model: Some(model.into()),
        ..cell
    };
    let shared = PlanRequest {
        cells: vec![
            of("start", cell("cold", 1)),
            of("start", own("hot", &["p1", "p2"])),
            of("other", cell("policy", 1)),
            cell("alone", 1),
            cell("also alone", 1),
        ],
        batch_size: 4,
        ..request()
    };
    let plan = run.ledger.plan_draws(shared.clone(), &Stop::default()).unwrap();
    let told: Vec<_> = plan.iter().map(|d| (d.prompt_id, d.cell, d.batch)).collect();
    assert_eq!(
        told,
        [
            ("p2", "cold", 0),
            ("p2", "hot", 0),
            ("p0", "cold", 0),
            ("p1", "cold", 0),
            ("p1", "hot", 1),
            ("p2", "policy", 2),
            ("p0", "policy", 2),
            ("p1", "policy", 2),
            ("p2", "alone", 3),
            ("p0", "alone", 3),
            ("p1", "alone", 3),
            ("p2", "also alone", 4),
            ("p0", "also alone", 4),
            ("p1", "also alone", 4),
        ]
    );
}

#[test]
fn another_seed_is_named() {
    let mut run = run_with_prompts(3, 0);
    run.ledger.plan_draws(request(), &Stop::default()).unwrap();
    let other = PlanRequest {
        run_seed: 99,
        ..request()
    };
    let error = run.ledger.plan_draws(other, &Stop::default()).unwrap_err();
    let said = format!("its seed is {}, and now seed 99 was asked for", request().run_seed);
    assert!(error.to_string().contains(&said), "{error}");
}

#[test]
fn a_list_of_billions_of_batches_is_refused() {
    let mut run = run_with_prompts(3, 0);
    let small = PlanRequest {
        cells: vec![cell("a", u32::MAX)],
        batch_size: 1,
        ..request()
    };
    run.ledger.plan_draws(small, &Stop::default()).unwrap();
    let error = run.ledger.pending(1, "train").unwrap_err();
    assert!(
        error.to_string().contains("are pending, and a list holds 16777216"),
        "{error}"
    );
}

#[test]
fn an_empty_plan_is_a_plan() {
    let mut run = run_with_prompts(1, 0);
    let empty = PlanRequest {
        cells: vec![],
        ..request()
    };
    let empty = PlanRequest {
        prompts: vec![],
        ..empty
    };
    for _ in 0..2 {
        let plan = run.ledger.plan_draws(empty.clone(), &Stop::default()).unwrap();
        assert_eq!((plan.draws(), plan.batches(), plan.iter().count()), (0, 0, 0));
    }
    assert!(run.ledger.pending(1, "train").unwrap().is_empty());
    let next = PlanRequest { iteration: 2, ..empty };
    let next = PlanRequest {
        prompts: vec!["p0".into()],
        cells: vec![cell("policy", 1)],
        ..next
    };
    assert_eq!(run.ledger.plan_draws(next, &Stop::default()).unwrap().first_id(), 1);
}

#[test]
fn what_cannot_be_planned_is_refused_by_name() {
    let mut run = run_with_prompts(3, 0);
    let cases = [
        (
            PlanRequest {
                purpose: "trian".into(),
                ..request()
            },
            r#"the nearest is "train""#,
        ),
        (
            PlanRequest {
                batch_size: 0,
                ..request()
            },
            "batch size",
        ),
        (
            PlanRequest {
                iteration: -1,
                ..request()
            },
            "iteration -1; the first one is 0",
        ),
        (
            PlanRequest {
                prompts: vec!["p9".into()],
                ..request()
            },
            r#"prompt "p9" is not in this run"#,
        ),
        (
            PlanRequest {
                prompts: vec!["p0".into(), "p0".into()],
                ..request()
            },
            r#"prompt "p0" is given twice"#,
        ),
        (
            PlanRequest {
                cells: vec![cell("a", 1), cell("a", 1)],
                ..request()
            },
            r#"cell "a" is given twice"#,
        ),
        (
            PlanRequest {
                cells: vec![own("human", &["p0", "p0"])],
                ..request()
            },
            r#"prompt "p0" is given twice"#,
        ),
        (
            PlanRequest {
                cells: vec![own("human", &["p9"])],
                ..request()
            },
            r#"prompt "p9" of a cell"#,
        ),
    ];
    for (bad, says) in cases {
        let error = run.ledger.plan_draws(bad, &Stop::default()).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(count(&run.ledger, "plans"), 0);
    let error = run.ledger.pending(1, "train").unwrap_err();
    assert!(error.to_string().contains("no plan of draws"), "{error}");
}

#[test]
fn pending_names_the_batches_that_are_not_answered() {
    let mut run = run_with_prompts(3, 0);
    let plan = run.ledger.plan_draws(request(), &Stop::default()).unwrap();
    assert_eq!(run.ledger.pending(1, "train").unwrap(), [0, 1, 2]);
    for (batch, left) in [(1, vec![0, 2]), (0, vec![2]), (2, vec![])] {
        let given = answers(plan.batch(batch).unwrap().len());
        run.ledger.record(1, "train", batch, &given).unwrap();
        assert_eq!(run.ledger.pending(1, "train").unwrap(), left);
    }
}

#[test]
fn a_plan_begins_beyond_every_response_and_an_edit_beyond_every_plan() {
    let mut run = run_with_prompts(3, 0);
    assert_eq!(run.ledger.free_response_id().unwrap(), 1);
    let plan = run.ledger.plan_draws(request(), &Stop::default()).unwrap();
    assert_eq!(run.ledger.free_response_id().unwrap(), 1 + plan.draws());
    let columns = [
        "response_id",
        "iteration",
        "prompt_id",
        "cell",
        "text",
        "token_ids",
        "tokens",
        "finish_reason",
    ];
    let edit = vec![
        Value::Int(10),
        Value::Int(1),
        text("p0"),
        text("human"),
        text("edited"),
        Value::Blob(vec![]),
        Value::Int(0),
        text("stop"),
    ];
    let edits = rows("responses", &columns, vec![edit]);
    run.ledger.write(1, "correct", 0, "", &[edits]).unwrap();
    let next = PlanRequest {
        iteration: 2,
        ..request()
    };
    assert_eq!(run.ledger.plan_draws(next, &Stop::default()).unwrap().first_id(), 11);
    assert_eq!(count(&run.ledger, "sampled"), 0);
}

#[test]
fn a_stopped_plan_is_not_laid_down() {
    let mut run = run_with_prompts(3, 0);
    let stop = Stop::default();
    stop.request();
    let stopped = run.ledger.plan_draws(request(), &stop);
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert_eq!(
        (count(&run.ledger, "plans"), count(&run.ledger, "plan_prompts")),
        (0, 0)
    );
}
