//! Any bytes as the file of an index: refused, or an index that takes rows and is found again.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use tso_core::dedup::Link;
use tso_core::dedup::index::{Index, IndexOptions};
use tso_core::ragged::{Ids, Offsets, Ragged};
use tso_core::run::Stop;

const OPTIONS: IndexOptions = IndexOptions {
    ngram: 2,
    threshold: 0.5,
    link: Link::Component,
};

fn add(index: &mut Index, ids: &[u32]) {
    let offsets = [0, ids.len() as i64 / 2, ids.len() as i64];
    let texts = Ragged::new(Ids::U32(ids), Offsets::I64(&offsets), None).expect("two rows");
    index.add(&texts, None, &Stop::default()).expect("rows that fit");
}

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index");
    let open = || Index::open(&path, OPTIONS, &Stop::default());
    // Damage to a file that was good reaches further than bytes that never were: the first byte chooses.
    let Some((how, data)) = data.split_first() else {
        return;
    };
    if how % 2 == 0 {
        let ids: Vec<u32> = data.iter().map(|&byte| u32::from(byte)).collect();
        let mut index = open().expect("a new index");
        add(&mut index, &ids);
        add(&mut index, &ids[ids.len() / 2..]);
        drop(index);
        let mut bytes = fs::read(&path).expect("its file");
        for pair in data.chunks_exact(3) {
            let place = usize::from(pair[0]) << 8 | usize::from(pair[1]);
            let length = bytes.len();
            bytes[place % length] ^= pair[2];
        }
        fs::write(&path, bytes).expect("room");
    } else {
        fs::write(&path, data).expect("room");
    }
    if let Ok(mut index) = open() {
        let rows = index.rows();
        add(&mut index, &[1, 2, 3, 4, 1, 2, 3, 5]);
        let clusters = index.clusters();
        drop(index);
        let again = open().expect("what was just written");
        assert_eq!((again.rows(), again.clusters()), (rows + 2, clusters));
    }
});
