//! Property tests of the data tools against the slow twins next door.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../twin/mod.rs"]
mod twin;

mod diversity;
mod index;
mod pairs;
mod parts;
mod ragged;
mod texts;

use proptest::prelude::*;
use tso_core::ragged::{Ids, Offsets, Ragged};
use twin::Text;

/// Texts as one batch that owns its ids.
pub struct Batch {
    ids: Vec<u32>,
    offsets: Vec<i64>,
    nulls: Vec<bool>,
}

impl Batch {
    pub fn new(texts: &[Text]) -> Self {
        let mut batch = Self {
            ids: vec![],
            offsets: vec![0],
            nulls: vec![],
        };
        for text in texts {
            batch.ids.extend(text.iter().flatten());
            batch.offsets.push(batch.ids.len() as i64);
            batch.nulls.push(text.is_none());
        }
        batch
    }

    pub fn ragged(&self) -> Ragged<'_> {
        Ragged::new(
            Ids::U32(&self.ids),
            Offsets::I64(&self.offsets),
            Some(self.nulls.clone()),
        )
        .unwrap()
    }
}

/// Few distinct texts and slightly changed copies of them, so that duplicates of all kinds are common.
pub fn texts(rows: usize) -> impl Strategy<Value = Vec<Text>> {
    let base = prop::collection::vec(prop::collection::vec(0u32..5, 0..14), 1..4);
    let copy = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0u32..6,
        0u8..12,
    );
    (base, prop::collection::vec(copy, 0..rows)).prop_map(|(base, copies)| {
        let changed = |(which, place, token, how): (prop::sample::Index, prop::sample::Index, u32, u8)| {
            let mut text = which.get(&base).clone();
            match how {
                0 => return None,
                1..=4 if !text.is_empty() => *place.get_mut(&mut text) = token,
                5 => text.push(token),
                _ => {}
            }
            Some(text)
        };
        copies.into_iter().map(changed).collect()
    })
}

pub fn threshold() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![0.2, 0.5, 0.6, 0.8, 1.0])
}
