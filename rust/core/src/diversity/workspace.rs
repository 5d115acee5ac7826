//! Scores one group after the other in the same memory: nothing is allocated for a group that is not the largest so far.

use super::bleu::Matched;
use super::ngrams::{Group, Occurrences, Walk};
use super::scored::{GroupScores, ORDERS, Options, Scores};
use super::similarity::Similarity;
use super::vendi::{self, Kernel};
use crate::ragged::Texts;
use crate::run::Stop;
use crate::{Error, Result};

/// What a thread needs for its groups.
#[derive(Default)]
pub(crate) struct Workspace {
    buffer: Vec<u32>,
    group: Group,
    walk: Walk,
    matched: Matched,
    kernel: Kernel,
    similarity: Similarity,
    shared: Vec<u32>,
}

impl Workspace {
    /// Takes the rows of a group, without those that are null.
    pub fn read(&mut self, texts: &dyn Texts, rows: impl Iterator<Item = usize>, stop: &Stop) -> Result<()> {
        self.group.clear();
        for row in rows {
            stop.check()?;
            if let Some(tokens) = texts.read(row, &mut self.buffer) {
                self.group.push(tokens);
            }
        }
        Ok(())
    }

    /// Fills in the scores that were asked for.
    pub fn score(&mut self, options: Options<'_>, result: &mut GroupScores, stop: &Stop) -> Result<()> {
        let scores = options.scores;
        check_size(result.group, &self.group, scores)?;
        result.responses = self.group.texts() as i64;
        result.tokens = self.group.tokens.len() as i64;
        if scores.distinct || scores.entropy || scores.self_bleu || scores.vendi {
            self.count(scores, result, stop)?;
        }
        if scores.self_bleu {
            result.self_bleu = self.matched.mean_bleu(&self.group).unwrap_or(f64::NAN);
        }
        if scores.vendi {
            result.vendi = self.kernel.score(options.order, stop)?.unwrap_or(f64::NAN);
        }
        if scores.jaccard {
            result.jaccard = self.mean_jaccard(options.ngram, stop)?.unwrap_or(f64::NAN);
        }
        Ok(())
    }

    /// The scores that come from one walk over the group's n-grams.
    fn count(&mut self, scores: Scores, result: &mut GroupScores, stop: &Stop) -> Result<()> {
        let (group, walk) = (&self.group, &mut self.walk);
        let (matched, kernel) = (&mut self.matched, &mut self.kernel);
        matched.start(if scores.self_bleu { group.texts() } else { 0 });
        kernel.start(if scores.vendi { group.texts() } else { 0 });
        walk.start(group);
        for order in 1..=ORDERS {
            stop.check()?;
            let mut tally = Tally::default();
            walk.next_order(group, |counts| {
                tally.add(counts, scores.entropy);
                if scores.self_bleu {
                    matched.add(order, counts);
                }
                if scores.vendi {
                    kernel.add(counts);
                }
            });
            tally.add_once(walk.once());
            if scores.vendi {
                kernel.end_order(walk.once());
            }
            if scores.distinct {
                result.distinct[order - 1] = tally.distinct_share();
            }
            if scores.entropy {
                result.entropy[order - 1] = tally.entropy();
            }
        }
        Ok(())
    }

    fn mean_jaccard(&mut self, ngram: usize, stop: &Stop) -> Result<Option<f64>> {
        self.similarity.clear(self.group.tokens.len());
        for text in 0..self.group.texts() {
            stop.check()?;
            self.similarity.push(self.group.text(text), ngram);
        }
        self.similarity.finish();
        self.similarity.mean(&mut self.shared, stop)
    }
}

fn check_size(name: i64, group: &Group, scores: Scores) -> Result<()> {
    if group.tokens.len() >= u32::MAX as usize {
        return Err(Error::Invalid(format!(
            "group {name} has more than 4,294,967,294 tokens; make smaller groups"
        )));
    }
    if scores.vendi && group.texts() > vendi::MOST {
        return Err(Error::Invalid(format!(
            "group {name} has {} responses, and vendi compares {} with one another at most; leave vendi out, or make \
             smaller groups",
            group.texts(),
            vendi::MOST
        )));
    }
    Ok(())
}

/// The n-grams of one order, counted.
#[derive(Default)]
struct Tally {
    distinct: u64,
    all: u64,
    /// Sum of count * log2(count), where entropy was asked for.
    weighted: f64,
}

impl Tally {
    fn add(&mut self, counts: Occurrences<'_>, entropy: bool) {
        let count: u64 = counts.iter().map(|&(_, count)| u64::from(count)).sum();
        self.distinct += 1;
        self.all += count;
        if entropy {
            self.weighted += count as f64 * (count as f64).log2();
        }
    }

    /// N-grams that the group has once, of which the logarithm is 0.
    fn add_once(&mut self, once: &[u32]) {
        let count: u64 = once.iter().map(|&count| u64::from(count)).sum();
        self.distinct += count;
        self.all += count;
    }

    /// NaN where there are no n-grams.
    fn distinct_share(&self) -> f64 {
        self.distinct as f64 / self.all as f64
    }

    /// -sum(p log p) with p = count / all; rounding may leave a tiny negative number. NaN where there are no n-grams.
    fn entropy(&self) -> f64 {
        if self.all == 0 {
            return f64::NAN;
        }
        ((self.all as f64).log2() - self.weighted / self.all as f64).max(0.0)
    }
}
