//! Criterion benches of the data tools on made-up texts: `cargo bench -p tso-core`. Figures against other tools come from
//! benchmarks/ instead.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "texts.rs"]
mod data;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use data::texts;
use tso_core::dedup::index::{Index, IndexOptions};
use tso_core::dedup::{Keep, Link, Mode, PairOptions, Pairs, Scope, TextOptions, dedup_pairs, dedup_texts};
use tso_core::ragged::{Ids, Offsets, Ragged};
use tso_core::run::{Stop, on_threads};

const ROWS: usize = 10_000;

fn dedup(criterion: &mut Criterion) {
    let made = texts(ROWS);
    let ragged = Ragged::new(Ids::U32(&made.ids), Offsets::I64(&made.offsets), None).unwrap();
    let mut group = criterion.benchmark_group("dedup");
    group
        .throughput(Throughput::Elements(made.ids.len() as u64))
        .sample_size(20);
    for (name, mode) in [("lsh", Mode::Lsh), ("exact", Mode::Exact)] {
        let options = TextOptions {
            ngram: 5,
            threshold: 0.8,
            mode,
            link: Link::Component,
            keep: Keep::First,
            groups: None,
        };
        let run = || on_threads(Some(1), || dedup_texts(&ragged, options, &Stop::default())).unwrap();
        group.bench_function(format!("texts, {name}"), |bencher| bencher.iter(run));
    }
    let half = made.offsets.len() / 2;
    let side = |from: usize| {
        Ragged::new(
            Ids::U32(&made.ids),
            Offsets::I64(&made.offsets[from..from + half]),
            None,
        )
        .unwrap()
    };
    let (chosen, rejected) = (side(0), side(half));
    let prompts = vec![1; half - 1];
    let ends: Vec<i64> = (0..half as i64).collect();
    let prompt = Ragged::new(Ids::U32(&prompts), Offsets::I64(&ends), None).unwrap();
    let options = PairOptions {
        scope: Scope::Prompt,
        max_length: None,
        ngram: 5,
        threshold: 0.8,
        mode: Mode::Lsh,
        link: Link::Component,
        keep: Keep::First,
    };
    let run = || {
        let pairs = Pairs {
            prompt: &prompt,
            chosen: &chosen,
            rejected: &rejected,
        };
        on_threads(Some(1), || dedup_pairs(pairs, options, &Stop::default())).unwrap()
    };
    group.bench_function("pairs", |bencher| bencher.iter(run));
    let run = || {
        on_threads(Some(1), || {
            let mut index = Index::in_memory(IndexOptions {
                ngram: 5,
                threshold: 0.8,
                link: Link::Component,
            })?;
            index.add(&ragged, None, &Stop::default())
        })
        .unwrap()
    };
    group.bench_function("index, one batch", |bencher| bencher.iter(run));
    group.finish();
}

criterion_group!(benches, dedup);
criterion_main!(benches);
