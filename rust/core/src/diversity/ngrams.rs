//! The n-grams of a group of texts for n = 1..4, counted exactly: no hash stands for an n-gram, so there is no collision.
//!
//! An n-gram is the number of its first n - 1 tokens (found one order earlier) and its last token, packed into
//! 64 bits. One that begins with an n-gram found once in the whole group is found once itself: only the others are
//! looked at again in the next order, and most n-grams of real texts are found once.

use super::number::Numbers;

/// The tokens of a group, one text after the other.
#[derive(Default)]
pub(crate) struct Group {
    pub tokens: Vec<u32>,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl Group {
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.ends.clear();
    }

    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.ends.push(self.tokens.len());
    }

    pub fn texts(&self) -> usize {
        self.ends.len()
    }

    pub fn text(&self, text: usize) -> &[u32] {
        &self.tokens[self.start(text)..self.ends[text]]
    }

    pub fn length(&self, text: usize) -> usize {
        self.ends[text] - self.start(text)
    }

    fn start(&self, text: usize) -> usize {
        text.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// One n-gram that the group has more than once: how often each text has it, as (text, count), ascending by text.
pub(crate) type Occurrences<'a> = &'a [(u32, u32)];

/// Walks the n-grams of one order after the other. Keeps its memory from group to group.
#[derive(Default)]
pub(crate) struct Walk {
    order: usize,
    numbers: Numbers,
    /// Places (position, text, number) of n-grams that the group has more than once, ascending by position.
    places: Vec<(u32, u32, u32)>,
    /// How often the group has each n-gram.
    totals: Vec<u32>,
    /// Where the texts of each repeated n-gram begin in `texts`.
    starts: Vec<u32>,
    texts: Vec<u32>,
    counts: Vec<(u32, u32)>,
    /// N-grams of each text that the group has once.
    once: Vec<u32>,
}

impl Walk {
    /// Sets out on a group of fewer than 2^32 tokens.
    pub fn start(&mut self, group: &Group) {
        self.order = 0;
        self.places.clear();
        for text in 0..group.texts() {
            let range = group.start(text)..group.ends[text];
            self.places
                .extend(range.map(|position| (position as u32, text as u32, 0)));
        }
    }

    /// Goes on to the next order and shows the n-grams that the group has more than once.
    pub fn next_order(&mut self, group: &Group, mut each: impl FnMut(Occurrences<'_>)) {
        self.order += 1;
        self.number(group);
        self.gather(group);
        let mut start = 0;
        for &total in self.totals.iter().filter(|&&total| total > 1) {
            let end = start + total as usize;
            self.counts.clear();
            for run in self.texts[start..end].chunk_by(|a, b| a == b) {
                self.counts.push((run[0], run.len() as u32));
            }
            each(&self.counts);
            start = end;
        }
    }

    /// For each text, how many of its n-grams of this order the group has no second time.
    pub fn once(&self) -> &[u32] {
        &self.once
    }

    /// Gives every n-gram a number, and takes those places out where the text ends before the n-gram does.
    fn number(&mut self, group: &Group) {
        let reach = self.order - 1;
        self.numbers.clear(self.places.len());
        self.totals.clear();
        let (numbers, totals) = (&mut self.numbers, &mut self.totals);
        self.places.retain_mut(|(position, text, number)| {
            let last = *position as usize + reach;
            if last >= group.ends[*text as usize] {
                return false;
            }
            *number = numbers.number(u64::from(*number) << 32 | u64::from(group.tokens[last]));
            match totals.get_mut(*number as usize) {
                Some(total) => *total += 1,
                None => totals.push(1),
            }
            true
        });
    }

    /// Gathers the texts of each repeated n-gram, n-gram by n-gram, ascending and with repeats; only their places stay.
    fn gather(&mut self, group: &Group) {
        let mut next = 0;
        self.starts.clear();
        self.starts.extend(self.totals.iter().map(|&total| {
            let start = next;
            next += if total > 1 { total } else { 0 };
            start
        }));
        self.texts.resize(next as usize, 0);
        self.once.clear();
        self.once
            .extend((0..group.texts()).map(|text| (group.length(text) + 1).saturating_sub(self.order) as u32));
        let (totals, starts, texts, once) = (&self.totals, &mut self.starts, &mut self.texts, &mut self.once);
        self.places.retain(|&(_, text, number)| {
            let number = number as usize;
            let repeated = totals[number] > 1;
            if repeated {
                texts[starts[number] as usize] = text;
                starts[number] += 1;
                once[text as usize] -= 1;
            }
            repeated
        });
    }
}
