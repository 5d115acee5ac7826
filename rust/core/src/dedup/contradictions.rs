//! Pairs that contradict one another: the opposite order of the same sides, and cycles of preferences.
//!
//! Both are resolved by score where there is one; without, everything concerned is lost.

use super::cycles::{Arc, components, weakest};
use super::exact::NONE;
use super::matches::{Matches, Triple};
use super::reason;
use super::table::Distinct;

/// Marks rows that another row contradicts, and returns those that lose: the weaker, and both where they are equal.
pub(crate) fn reversals(
    distinct: &Distinct,
    matches: &Matches,
    scores: Option<&[f64]>,
    concerned: &mut [u8],
) -> Vec<bool> {
    let strength = |row: usize| scores.map_or(0.0, |scores| scores[row]);
    let mut strongest = vec![f64::NEG_INFINITY; distinct.triples.len()];
    for (row, &pair) in distinct
        .nodes
        .of_row
        .iter()
        .enumerate()
        .filter(|entry| *entry.1 != NONE)
    {
        strongest[pair as usize] = strongest[pair as usize].max(strength(row));
    }
    let mut against = vec![f64::NEG_INFINITY; distinct.triples.len()];
    for edge in &matches.reversed {
        for (pair, other) in [(edge.i as usize, edge.j as usize), (edge.j as usize, edge.i as usize)] {
            against[pair] = against[pair].max(strongest[other]);
        }
    }
    let mut lost = vec![false; concerned.len()];
    for (row, &pair) in distinct.nodes.of_row.iter().enumerate() {
        if pair != NONE && against[pair as usize] > f64::NEG_INFINITY {
            concerned[row] |= reason::REVERSED;
            lost[row] = strength(row) <= against[pair as usize];
        }
    }
    lost
}

/// Marks rows on cycles among three or more equal responses of one prompt, and adds the weakest of each cycle to `lost`.
/// Rows that are lost already make no cycle.
pub(crate) fn cycles(triples: &[Option<Triple>], scores: Option<&[f64]>, concerned: &mut [u8], lost: &mut [bool]) {
    let (nodes, arcs) = preferences(triples, scores, lost);
    let component = components(nodes, arcs.iter().map(|(_, arc)| (arc.from, arc.to)));
    let mut size = vec![0; nodes];
    component.iter().for_each(|&component| size[component as usize] += 1);
    let on_cycle = |arc: &Arc| {
        let component = (component[arc.from as usize], component[arc.to as usize]);
        component.0 == component.1 && size[component.0 as usize] > 2
    };
    let (rows, arcs): (Vec<usize>, Vec<Arc>) = arcs.into_iter().filter(|(_, arc)| on_cycle(arc)).unzip();
    for (&row, weakest) in rows.iter().zip(weakest(nodes, &arcs)) {
        concerned[row] |= reason::CYCLE;
        lost[row] |= weakest;
    }
}

/// Each row that is not lost as an arc from its chosen to its rejected response; responses are numbered per prompt.
fn preferences(triples: &[Option<Triple>], scores: Option<&[f64]>, lost: &[bool]) -> (usize, Vec<(usize, Arc)>) {
    let rows: Vec<(usize, Triple)> = triples
        .iter()
        .enumerate()
        .filter(|&(row, _)| !lost[row])
        .filter_map(|(row, triple)| Some((row, (*triple)?)))
        .collect();
    let mut responses: Vec<(u32, u32)> = rows
        .iter()
        .flat_map(|(_, t)| [(t.prompt, t.chosen), (t.prompt, t.rejected)])
        .collect();
    responses.sort_unstable();
    responses.dedup();
    let number = |prompt, side| responses.partition_point(|&other| other < (prompt, side)) as u32;
    let ranks = ranks(rows.iter().map(|&(row, _)| scores.map_or(0.0, |scores| scores[row])));
    let arc = |(&(row, triple), rank): (&(usize, Triple), u32)| {
        let (from, to) = (
            number(triple.prompt, triple.chosen),
            number(triple.prompt, triple.rejected),
        );
        (row, Arc { from, to, rank })
    };
    let arcs = rows.iter().zip(ranks).map(arc).collect();
    (responses.len(), arcs)
}

/// 0 for the highest value, 1 for the next, and so on; equal values share a rank.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<u32> {
    // Adding 0.0 turns -0.0 into 0.0, which total_cmp would otherwise tell apart.
    let values: Vec<f64> = values.map(|value| value + 0.0).collect();
    let mut sorted = values.clone();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted.dedup();
    values
        .iter()
        .map(|value| sorted.partition_point(|other| other > value) as u32)
        .collect()
}
