//! A table of pairs in numbers: equal texts are one node, and equal pairs one number.

use super::cluster::Neighbours;
use super::corpus::Corpus;
use super::exact::{NONE, Nodes, intern};
use super::matches::Triple;
use super::near::{self, Search};
use super::paired::{PairOptions, Pairs, Scope};
use super::{Edge, reason};
use crate::Result;
use crate::ragged::Texts;
use crate::run::Stop;

/// Both sides of all pairs as one batch: first all chosen, then all rejected.
struct Sides<'a>(Pairs<'a>);

impl Sides<'_> {
    fn place(&self, row: usize) -> (&dyn Texts, usize) {
        let rows = self.0.chosen.rows();
        if row < rows {
            (self.0.chosen, row)
        } else {
            (self.0.rejected, row - rows)
        }
    }
}

impl Texts for Sides<'_> {
    fn rows(&self) -> usize {
        self.0.chosen.rows() + self.0.rejected.rows()
    }

    fn read<'b>(&'b self, row: usize, buffer: &'b mut Vec<u32>) -> Option<&'b [u32]> {
        let (texts, row) = self.place(row);
        texts.read(row, buffer)
    }

    fn length(&self, row: usize) -> usize {
        let (texts, row) = self.place(row);
        texts.length(row)
    }

    fn is_null(&self, row: usize) -> bool {
        let (texts, row) = self.place(row);
        texts.is_null(row)
    }
}

/// The pairs in nodes of equal texts. Rows that are null in any part, or degenerate, have no triple.
pub(crate) struct Table<'a> {
    pairs: Pairs<'a>,
    prompts: Nodes,
    sides: Nodes,
    pub triples: Vec<Option<Triple>>,
}

impl<'a> Table<'a> {
    pub fn new(pairs: Pairs<'a>, scope: Scope, stop: &Stop) -> Result<Self> {
        let rows = pairs.prompt.rows();
        let prompts = intern(pairs.prompt, |_| 0, stop)?;
        let group = |side: usize| match scope {
            Scope::Prompt => i64::from(prompts.of_row[side % rows]),
            Scope::Global => 0,
        };
        let sides = intern(&Sides(pairs), group, stop)?;
        let triple = |row: usize| {
            let triple = Triple {
                prompt: prompts.of_row[row],
                chosen: sides.of_row[row],
                rejected: sides.of_row[row + rows],
            };
            (![triple.prompt, triple.chosen, triple.rejected].contains(&NONE)).then_some(triple)
        };
        let triples = (0..rows).map(triple).collect();
        Ok(Self {
            pairs,
            prompts,
            sides,
            triples,
        })
    }

    /// Takes pairs out whose sides are the same, at once or after truncation, and returns their reasons.
    pub fn take_degenerate(&mut self, max_length: Option<usize>) -> Vec<u8> {
        let mut reasons = vec![0; self.triples.len()];
        for (row, reason) in reasons.iter_mut().enumerate() {
            let Some(triple) = self.triples[row] else {
                continue;
            };
            if triple.chosen == triple.rejected {
                *reason = reason::DEGENERATE;
            } else if max_length.is_some_and(|length| self.same_within(row, length)) {
                *reason = reason::DEGENERATE_TRUNCATED;
            } else {
                continue;
            }
            self.triples[row] = None;
        }
        reasons
    }

    /// Whether both sides are the same when prompt and completion together are cut to `length` tokens at the end.
    fn same_within(&self, row: usize, length: usize) -> bool {
        let room = length.saturating_sub(self.pairs.prompt.length(row));
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let cut = |tokens: Option<&[u32]>| tokens.map(|tokens| tokens[..tokens.len().min(room)].to_vec());
        cut(self.pairs.chosen.read(row, &mut left)) == cut(self.pairs.rejected.read(row, &mut right))
    }

    /// Near-duplicates among prompts (in global scope) and among the sides still in play.
    pub fn near_links(&self, options: PairOptions<'_>, stop: &Stop) -> Result<(Neighbours, Neighbours, u64)> {
        let search = Search {
            threshold: options.threshold,
            mode: options.mode,
            forest: false,
        };
        let mut in_play = (
            vec![false; self.prompts.first.len()],
            vec![false; self.sides.first.len()],
        );
        for triple in self.triples.iter().flatten() {
            in_play.0[triple.prompt as usize] = options.scope == Scope::Global;
            in_play.1[triple.chosen as usize] = true;
            in_play.1[triple.rejected as usize] = true;
        }
        let all = Sides(self.pairs);
        let prompts = Corpus::new(self.pairs.prompt, &self.prompts, options.ngram, |node| {
            in_play.0[node as usize]
        });
        let sides = Corpus::new(&all, &self.sides, options.ngram, |node| in_play.1[node as usize]);
        let (prompt_edges, skipped_prompts) = near::links(&prompts, search, stop)?;
        let (side_edges, skipped_sides) = near::links(&sides, search, stop)?;
        Ok((
            Neighbours::new(self.prompts.first.len(), &prompt_edges),
            Neighbours::new(self.sides.first.len(), &side_edges),
            skipped_prompts + skipped_sides,
        ))
    }

    /// Distinct pairs, numbered by their first rows.
    pub fn distinct(&self) -> Distinct {
        let mut order: Vec<(Triple, u32)> = self
            .triples
            .iter()
            .enumerate()
            .filter_map(|(row, triple)| Some(((*triple)?, row as u32)))
            .collect();
        order.sort_unstable();
        let mut runs: Vec<&[(Triple, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        runs.sort_unstable_by_key(|run| run[0].1);
        let mut of_row = vec![NONE; self.triples.len()];
        for (pair, run) in runs.iter().enumerate() {
            run.iter().for_each(|entry| of_row[entry.1 as usize] = pair as u32);
        }
        let first = runs.iter().map(|run| run[0].1).collect();
        let group = vec![0; runs.len()];
        Distinct {
            triples: runs.iter().map(|run| run[0].0).collect(),
            nodes: Nodes { of_row, first, group },
        }
    }
}

/// Pairs without their exact copies.
pub(crate) struct Distinct {
    pub triples: Vec<Triple>,
    pub nodes: Nodes,
}

impl Distinct {
    /// The distinct pairs that still have a row, renumbered, and the links between them.
    pub fn survivors(&self, lost: &[bool], edges: &[Edge]) -> (Nodes, Vec<Edge>) {
        let mut number = vec![NONE; self.triples.len()];
        let mut left = Nodes {
            of_row: vec![NONE; lost.len()],
            first: Vec::new(),
            group: Vec::new(),
        };
        for (row, &pair) in self.nodes.of_row.iter().enumerate() {
            if pair == NONE || lost[row] {
                continue;
            }
            if number[pair as usize] == NONE {
                number[pair as usize] = left.first.len() as u32;
                left.first.push(row as u32);
                left.group.push(0);
            }
            left.of_row[row] = number[pair as usize];
        }
        // First surviving rows need not ascend with the first rows, so a link may turn round.
        let mut edges: Vec<Edge> = edges
            .iter()
            .map(|edge| (number[edge.i as usize], number[edge.j as usize], edge.jaccard))
            .filter(|&(i, j, _)| i != NONE && j != NONE)
            .map(|(i, j, jaccard)| Edge {
                i: i.min(j),
                j: i.max(j),
                jaccard,
            })
            .collect();
        edges.sort_unstable_by_key(|edge| (edge.i, edge.j));
        (left, edges)
    }
}
