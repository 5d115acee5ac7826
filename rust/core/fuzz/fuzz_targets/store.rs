//! Any bytes as a run store, alone or over parts of a good one: refused, or read without a crash.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tso_core::ledger::Ledger;

/// The bytes of a good store.
fn good() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.sqlite");
        let meta = BTreeMap::from([("seed".to_owned(), "1".to_owned())]);
        drop(Ledger::create(&path, &meta).expect("a store"));
        fs::read(&path).expect("its file")
    })
}

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.sqlite");
    let Some((how, data)) = data.split_first() else {
        return;
    };
    let bytes = if how % 2 == 0 {
        let mut bytes = good().to_vec();
        for change in data.chunks_exact(4) {
            let place = usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
            let length = bytes.len();
            bytes[place % length] = change[3];
        }
        bytes
    } else {
        data.to_vec()
    };
    fs::write(&path, bytes).expect("room");
    for read_only in [true, false] {
        if let Ok(ledger) = Ledger::open(&path, read_only) {
            let _ = ledger.meta();
            let _ = ledger.units(None, None);
            let _ = ledger.check();
            let _ = ledger.query("SELECT * FROM units", &[]);
        }
    }
});
