//! The rules for pairs, each as a loop over all pairs of rows; cycles by reachability.

use super::texts::{Expected, settle};
use super::{Text, near};

#[derive(Debug)]
pub struct Row {
    pub prompt: Text,
    pub chosen: Text,
    pub rejected: Text,
}

pub struct Rules {
    pub global: bool,
    pub max_length: Option<usize>,
    pub n: usize,
    pub threshold: f64,
    pub star: bool,
}

pub fn dedup(rows: &[Row], rules: &Rules, preference: &[f64], scored: bool) -> Expected {
    let degenerate: Vec<u8> = rows.iter().map(|row| degenerate(row, rules.max_length)).collect();
    let live: Vec<bool> = (0..rows.len())
        .map(|i| degenerate[i] == 0 && parts(&rows[i]).is_some())
        .collect();
    let strength = |i: usize| if scored { preference[i] } else { 0.0 };
    let reversed = |i: usize, j: usize| live[i] && live[j] && orientation(&rows[i], &rows[j], rules) == Some(false);

    let mut reason = degenerate.clone();
    let mut lost: Vec<bool> = degenerate.iter().map(|&bits| bits != 0).collect();
    for i in 0..rows.len() {
        let against: Vec<usize> = (0..rows.len()).filter(|&j| reversed(i, j)).collect();
        if !against.is_empty() {
            reason[i] |= 4;
            lost[i] |= against.iter().any(|&j| strength(j) >= strength(i));
        }
    }
    let left: Vec<bool> = (0..rows.len()).map(|i| live[i] && !lost[i]).collect();
    let cyclic = cycles(rows, &left, &strength);
    for i in 0..rows.len() {
        if let Some(weakest) = cyclic[i] {
            reason[i] |= 32;
            lost[i] |= weakest;
        }
    }
    let left = |i: usize| live[i] && !lost[i];
    let linked = |i: usize, j: usize| left(i) && left(j) && orientation(&rows[i], &rows[j], rules) == Some(true);
    let same = |i: usize, j: usize| left(i) && left(j) && parts(&rows[i]) == parts(&rows[j]);
    let mut expected = settle(rows.len(), preference, rules.star, linked, same);
    for i in 0..rows.len() {
        expected.keep[i] &= !lost[i];
        expected.reason[i] |= reason[i];
    }
    expected
}

fn parts(row: &Row) -> Option<(&[u32], &[u32], &[u32])> {
    Some((row.prompt.as_deref()?, row.chosen.as_deref()?, row.rejected.as_deref()?))
}

fn degenerate(row: &Row, max_length: Option<usize>) -> u8 {
    let Some((prompt, chosen, rejected)) = parts(row) else {
        return 0;
    };
    if chosen == rejected {
        return 8;
    }
    let cut = |side: &[u32], length: usize| {
        let both: Vec<u32> = prompt
            .iter()
            .chain(side)
            .copied()
            .take(length.max(prompt.len()))
            .collect();
        both
    };
    if max_length.is_some_and(|length| cut(chosen, length) == cut(rejected, length)) {
        16
    } else {
        0
    }
}

/// Some(true) where two pairs match in the same order, Some(false) in the opposite one.
fn orientation(a: &Row, b: &Row, rules: &Rules) -> Option<bool> {
    let ((p, c, r), (q, d, s)) = (parts(a)?, parts(b)?);
    if rules.global {
        near(p, q, rules.n, rules.threshold)
    } else {
        (p == q).then_some(1.0)
    }?;
    let side = |x: &[u32], y: &[u32]| near(x, y, rules.n, rules.threshold);
    let both = |x: Option<f64>, y: Option<f64>| Some(x?.min(y?));
    let forward = both(side(c, d), side(r, s));
    let reversed = both(side(c, s), side(r, d));
    match (forward, reversed) {
        (None, None) => None,
        (Some(_), None) => Some(true),
        (None, Some(_)) => Some(false),
        (Some(forward), Some(reversed)) => Some(forward >= reversed),
    }
}

/// For each row on a cycle of three or more responses, whether it is lost: round by round, the weakest rows of each
/// strongly connected component go, until no cycle is left.
fn cycles(rows: &[Row], live: &[bool], strength: &impl Fn(usize) -> f64) -> Vec<Option<bool>> {
    let mut alive: Vec<usize> = (0..rows.len()).filter(|&i| live[i]).collect();
    let mut fate = vec![None; rows.len()];
    for members in strong(rows, &alive) {
        let mut nodes: Vec<&Text> = members
            .iter()
            .flat_map(|&i| [&rows[i].chosen, &rows[i].rejected])
            .collect();
        nodes.sort();
        nodes.dedup();
        if nodes.len() > 2 {
            members.iter().for_each(|&i| fate[i] = Some(false));
        }
    }
    loop {
        let components = strong(rows, &alive);
        if components.is_empty() {
            return fate;
        }
        for members in components {
            let weakest = members.iter().map(|&i| strength(i)).fold(f64::INFINITY, f64::min);
            for &i in members.iter().filter(|&&i| strength(i) == weakest) {
                fate[i] = fate[i].map(|_| true);
                alive.retain(|&row| row != i);
            }
        }
    }
}

/// Rows grouped by strongly connected component; rows on no cycle are left out.
fn strong(rows: &[Row], alive: &[usize]) -> Vec<Vec<usize>> {
    let follows = |i: usize, j: usize| rows[i].prompt == rows[j].prompt && rows[i].rejected == rows[j].chosen;
    let reach = |from: usize| {
        let mut seen: Vec<usize> = vec![];
        let mut open = vec![from];
        while let Some(row) = open.pop() {
            for &next in alive.iter().filter(|&&next| follows(row, next)) {
                if !seen.contains(&next) {
                    seen.push(next);
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: Vec<Vec<usize>> = alive.iter().map(|&row| reach(row)).collect();
    let from = |row: usize| &reached[alive.iter().position(|&other| other == row).unwrap()];
    let mut groups: Vec<Vec<usize>> = vec![];
    for &row in alive.iter().filter(|&&row| from(row).contains(&row)) {
        let together = |other: usize| from(row).contains(&other) && from(other).contains(&row);
        match groups.iter_mut().find(|group| together(group[0])) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}
