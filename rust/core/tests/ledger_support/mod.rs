//! A small run to test with.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;
use tso_core::ledger::{Answer, CellRequest, Ledger, PlanRequest, Rows, Value};
use tso_core::run::Stop;

pub fn meta() -> BTreeMap<String, String> {
    BTreeMap::from([("seed".into(), "17".into()), ("config".into(), "{}".into())])
}

pub struct Run {
    pub folder: TempDir,
    pub path: PathBuf,
    pub ledger: Ledger,
}

pub fn run() -> Run {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.sqlite");
    let ledger = Ledger::create(&path, &meta()).unwrap();
    Run { folder, path, ledger }
}

pub fn run_with_prompts(train: usize, heldout: usize) -> Run {
    let mut run = run();
    let rows = prompts(train, heldout);
    run.ledger.write(0, "prompts", 0, "{}", &[rows]).unwrap();
    run
}

pub fn text(value: &str) -> Value {
    Value::Text(value.into())
}

pub fn rows(table: &str, columns: &[&str], rows: Vec<Vec<Value>>) -> Rows {
    Rows {
        table: table.into(),
        columns: columns.iter().map(ToString::to_string).collect(),
        rows,
    }
}

pub const PROMPT: [&str; 6] = ["prompt_id", "position", "split", "messages", "human", "tags"];

pub fn prompts(train: usize, heldout: usize) -> Rows {
    let row = |at: usize| {
        let split = if at < train { "train" } else { "heldout" };
        vec![
            Value::Text(format!("p{at}")),
            Value::Int(at as i64),
            text(split),
            text("[]"),
            text("[]"),
            text("{}"),
        ]
    };
    rows("prompts", &PROMPT, (0..train + heldout).map(row).collect())
}

pub fn count(ledger: &Ledger, table: &str) -> i64 {
    let found = ledger.query(&format!("SELECT count(*) FROM {table}"), &[]);
    match found.unwrap().rows[0][0] {
        Value::Int(count) => count,
        ref other => unreachable!("count(*) gave {other:?}"),
    }
}

/// A run whose iteration 1 asks the cell `policy` for so many draws of each of so many prompts.
pub fn planned(prompts: usize, draws: u32, batch_size: usize) -> Run {
    let mut run = run_with_prompts(prompts, 0);
    let cell = CellRequest {
        cell: "policy".into(),
        draws,
        prompts: None,
        model: None,
    };
    let request = PlanRequest {
        iteration: 1,
        purpose: "train".into(),
        run_seed: 17,
        prompts: (0..prompts).map(|at| format!("p{at}")).collect(),
        cells: vec![cell],
        batch_size,
    };
    run.ledger.plan_draws(request, &Stop::default()).unwrap();
    run
}

/// So many answers, all different.
pub fn answers(count: usize) -> Vec<Answer> {
    let answer = |at: usize| Answer {
        text: format!("answer {at}"),
        token_ids: (at as u32).to_le_bytes().to_vec(),
        finish_reason: "stop".into(),
    };
    (0..count).map(answer).collect()
}
