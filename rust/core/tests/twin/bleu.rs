//! Self-BLEU with counters and Python's arithmetic, one text against all others at a time.

use std::collections::BTreeMap;

fn counts(text: &[u32], n: usize) -> BTreeMap<&[u32], usize> {
    let mut counts = BTreeMap::new();
    for gram in text.windows(n) {
        *counts.entry(gram).or_insert(0) += 1;
    }
    counts
}

fn bleu(text: &[u32], others: &[&Vec<u32>]) -> f64 {
    let mut log = 0.0;
    for n in 1..=4 {
        let mine = counts(text, n);
        let most = |gram: &[u32]| {
            others
                .iter()
                .map(|other| counts(other, n).get(gram).copied().unwrap_or(0))
                .max()
        };
        let matched: usize = mine
            .iter()
            .map(|(gram, &count)| count.min(most(gram).unwrap_or(0)))
            .sum();
        if n == 1 && matched == 0 {
            return 0.0;
        }
        let all = mine.values().sum::<usize>().max(1) as f64;
        log += (if matched == 0 { 0.1 } else { matched as f64 } / all).ln() / 4.0;
    }
    let closest = others
        .iter()
        .map(|other| other.len())
        .min_by_key(|&l| (l.abs_diff(text.len()), l))
        .unwrap();
    let brevity = if text.len() > closest {
        1.0
    } else {
        (1.0 - closest as f64 / text.len() as f64).exp()
    };
    brevity * log.exp()
}

pub fn self_bleu(texts: &[Vec<u32>]) -> f64 {
    let scores = (0..texts.len()).map(|i| {
        let others: Vec<&Vec<u32>> = texts
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, t)| t)
            .collect();
        bleu(&texts[i], &others)
    });
    scores.sum::<f64>() / texts.len() as f64
}
