//! The n-grams of a group of texts for n = 1..4, counted exactly: no hash, so no collision.
//!
//! An n-gram is the number of its first n - 1 tokens (found one order earlier) and its last token, packed into
//! 64 bits; equal n-grams meet by sorting, and get numbers for the next order.

/// The tokens of a group, one text after the other.
pub(crate) struct Group {
    pub tokens: Vec<u32>,
    /// Where each text begins; one more entry than texts.
    pub starts: Vec<usize>,
}

impl Group {
    pub fn new() -> Self {
        Self {
            tokens: Vec::new(),
            starts: vec![0],
        }
    }

    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.starts.push(self.tokens.len());
    }

    pub fn texts(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn length(&self, text: usize) -> usize {
        self.starts[text + 1] - self.starts[text]
    }
}

/// One distinct n-gram: how often each text has it, as (text, count), ascending by text.
pub(crate) type Occurrences<'a> = &'a [(u32, u32)];

/// Walks the distinct n-grams of one order after the other, `first(order)` calling `each` for every n-gram.
pub(crate) struct Walk<'a> {
    group: &'a Group,
    /// For each position, the number of the n-gram of the last order that begins there.
    number: Vec<u32>,
    order: usize,
    entries: Vec<(u64, u32, u32)>,
}

impl<'a> Walk<'a> {
    pub fn new(group: &'a Group) -> Self {
        Self {
            group,
            number: vec![0; group.tokens.len()],
            order: 0,
            entries: Vec::new(),
        }
    }

    /// Goes on to the next order and shows its distinct n-grams.
    pub fn next_order(&mut self, mut each: impl FnMut(Occurrences<'_>)) {
        self.order += 1;
        self.collect();
        self.entries.sort_unstable();
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for (id, run) in self.entries.chunk_by(|a, b| a.0 == b.0).enumerate() {
            counts.clear();
            for &(_, position, text) in run {
                self.number[position as usize] = id as u32;
                match counts.last_mut() {
                    Some(last) if last.0 == text => last.1 += 1,
                    _ => counts.push((text, 1)),
                }
            }
            each(&counts);
        }
    }

    /// All n-grams of the order as (packed n-gram, position, text). Positions ascend with texts.
    fn collect(&mut self) {
        self.entries.clear();
        for text in 0..self.group.texts() {
            let (start, end) = (self.group.starts[text], self.group.starts[text + 1]);
            for position in start..(end + 1).saturating_sub(self.order).max(start) {
                let last = self.group.tokens[position + self.order - 1];
                let packed = u64::from(self.number[position]) << 32 | u64::from(last);
                self.entries.push((packed, position as u32, text as u32));
            }
        }
    }
}
