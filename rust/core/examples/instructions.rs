//! A fixed piece of work on one thread, for callgrind to count its instructions: benchmarks/instructions.sh.

#[path = "../benches/texts.rs"]
mod data;

use tso_core::Result;
use tso_core::dedup::{Keep, Link, Mode, TextOptions, dedup_texts};
use tso_core::ragged::{Ids, Offsets, Ragged};
use tso_core::run::{Stop, on_threads};

fn main() -> Result<()> {
    let made = data::texts(4000);
    let options = TextOptions {
        ngram: 5,
        threshold: 0.8,
        mode: Mode::Lsh,
        link: Link::Component,
        keep: Keep::First,
        groups: None,
    };
    let found = on_threads(Some(1), || {
        let texts = Ragged::new(Ids::U32(&made.ids), Offsets::I64(&made.offsets), None)?;
        dedup_texts(&texts, options, &Stop::default())
    })?;
    // Read, so that nothing of it can be left out.
    assert!(found.keep.iter().any(|keep| !keep));
    Ok(())
}
