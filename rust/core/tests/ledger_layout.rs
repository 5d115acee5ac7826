//! A plan's arithmetic against its twin, which lists every draw.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use ledger_support::run_with_prompts;
use proptest::prelude::*;
use tso_core::ledger::{CellRequest, Draw, PlanRequest, draw_seed};
use tso_core::run::Stop;

const PROMPTS: usize = 7;

fn cell() -> impl Strategy<Value = CellRequest> {
    let own = prop::option::of(prop::sample::subsequence((0..PROMPTS).collect::<Vec<_>>(), 0..=PROMPTS));
    let model = prop::option::of(prop::sample::select(vec!["a", "b"]));
    (0_u32..4, own, model).prop_map(|(draws, own, model)| CellRequest {
        cell: String::new(),
        draws,
        prompts: own.map(|own| own.iter().map(|at| format!("p{at}")).collect()),
        model: model.map(String::from),
    })
}

fn request() -> impl Strategy<Value = PlanRequest> {
    (prop::collection::vec(cell(), 0..5), 1_usize..6, any::<u64>()).prop_map(|(mut cells, batch_size, run_seed)| {
        for (at, cell) in cells.iter_mut().enumerate() {
            cell.cell = format!("c{at}");
        }
        PlanRequest {
            iteration: 3,
            purpose: "train".into(),
            run_seed,
            prompts: (0..PROMPTS).map(|at| format!("p{at}")).collect(),
            cells,
            batch_size,
        }
    })
}

/// The plan as a list, made by nested loops.
fn listed(request: &PlanRequest) -> Vec<Draw<'_>> {
    let mut plan: Vec<Draw<'_>> = Vec::new();
    let mut batch = -1;
    let one_model = |a: &CellRequest, b: &CellRequest| a.model.is_some() && a.model == b.model;
    for cells in request.cells.chunk_by(one_model) {
        let mut room = 0;
        for prompt_id in &request.prompts {
            for CellRequest {
                cell, draws, prompts, ..
            } in cells
            {
                if prompts.as_ref().is_some_and(|own| !own.contains(prompt_id)) {
                    continue;
                }
                for draw in 0..*draws {
                    if room == 0 {
                        batch += 1;
                        room = request.batch_size;
                    }
                    room -= 1;
                    plan.push(Draw {
                        draw_id: 1 + plan.len() as i64,
                        prompt_id,
                        cell,
                        draw,
                        seed: draw_seed(request.run_seed, request.iteration, prompt_id, cell, draw),
                        batch,
                    });
                }
            }
        }
    }
    plan
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_is_its_list(request in request()) {
        let mut run = run_with_prompts(PROMPTS, 0);
        let made = run.ledger.plan_draws(request.clone(), &Stop::default()).unwrap();
        let expected = listed(&request);
        for plan in [made, run.ledger.plan(3, "train").unwrap()] {
            prop_assert_eq!(plan.draws(), expected.len() as i64);
            prop_assert_eq!(plan.batches(), expected.last().map_or(0, |draw| draw.batch + 1));
            prop_assert_eq!(&plan.iter().collect::<Vec<_>>(), &expected);
            for batch in 0..plan.batches() {
                let own: Vec<_> = expected.iter().copied().filter(|draw| draw.batch == batch).collect();
                prop_assert_eq!(plan.batch(batch).unwrap().collect::<Vec<_>>(), own);
            }
            for beyond in [-1, plan.batches()] {
                prop_assert!(plan.batch(beyond).is_none());
            }
            for beyond in [-1, plan.draws()] {
                prop_assert!(plan.get(beyond).is_none());
            }
        }
    }
}

#[test]
fn a_plan_may_be_larger_than_memory_but_not_than_its_numbers() {
    let mut run = run_with_prompts(2, 0);
    let cell = |at: usize| CellRequest {
        cell: format!("c{at}"),
        draws: u32::MAX,
        prompts: None,
        model: None,
    };
    let request = |iteration, cells: usize| PlanRequest {
        iteration,
        purpose: "train".into(),
        run_seed: 0,
        prompts: ["p0", "p1"].map(String::from).into(),
        cells: (0..cells).map(cell).collect(),
        batch_size: 1 << 62,
    };
    let plan = run.ledger.plan_draws(request(1, 1000), &Stop::default()).unwrap();
    assert_eq!(plan.draws(), 2000 * i64::from(u32::MAX));
    let last = plan.get(plan.draws() - 1).unwrap();
    assert_eq!(
        (last.prompt_id, last.cell, last.draw, last.batch),
        ("p1", "c999", u32::MAX - 1, 999)
    );
    let twice = PlanRequest {
        batch_size: usize::MAX,
        ..request(2, 1)
    };
    let error = run.ledger.plan_draws(twice, &Stop::default()).unwrap_err();
    assert!(error.to_string().contains("a batch size of"), "{error}");
}
