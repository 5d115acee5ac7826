//! Creating, opening, refusing, copying and reading a store.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use std::fs;

use ledger_support::{count, meta, rows, run, run_with_prompts, text};
use tempfile::TempDir;
use tso_core::Error;
use tso_core::ledger::{Ledger, VERSION, Value};

/// The columns and rules of the tables, without comments and layout, as one number.
#[test]
fn the_schema_changes_only_with_its_version() {
    let run = run();
    let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let text: String = run
        .ledger
        .query(sql, &[])
        .unwrap()
        .rows
        .iter()
        .map(|row| format!("{row:?}"))
        .flat_map(|entry| entry.replace("\\n", "\n").lines().map(bare).collect::<Vec<_>>())
        .collect();
    let pinned = (VERSION, twox_hash::XxHash3_64::oneshot(text.as_bytes()));
    assert_eq!(
        pinned,
        (4, 10_333_919_359_450_511_286),
        "the tables have changed: raise VERSION, unless no store of this version exists yet"
    );
}

fn bare(line: &str) -> String {
    let code = line.split("--").next().unwrap_or_default();
    code.split_whitespace().collect()
}

#[test]
fn a_new_store_is_one_clean_file_with_its_meta() {
    let run = run();
    assert_eq!(run.ledger.meta().unwrap(), meta());
    assert!(run.ledger.check().unwrap().is_empty());
    drop(run.ledger);
    let mut names: Vec<_> = fs::read_dir(run.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["run.sqlite", "run.sqlite.lock"]);
}

#[test]
fn create_refuses_what_exists_and_clears_what_was_half_built() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.sqlite");
    fs::write(folder.path().join("run.sqlite.new"), "half").unwrap();
    fs::write(folder.path().join("run.sqlite.new-journal"), "half").unwrap();
    Ledger::create(&path, &meta()).unwrap();
    assert!(!folder.path().join("run.sqlite.new-journal").exists());
    let again = Ledger::create(&path, &meta());
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");

    let orphan = folder.path().join("other.sqlite");
    fs::write(folder.path().join("other.sqlite-wal"), "log").unwrap();
    let refused = Ledger::create(&orphan, &meta());
    assert!(
        matches!(&refused, Err(Error::Conflict(said)) if said.contains("without its store")),
        "{refused:?}"
    );

    let nowhere = Ledger::create(&folder.path().join("no/run.sqlite"), &meta());
    assert!(matches!(nowhere, Err(Error::Io(_))), "{nowhere:?}");
}

#[test]
fn one_writer_and_many_readers() {
    let mut run = run();
    let second = Ledger::open(&run.path, false);
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    let reader = Ledger::open(&run.path, true).unwrap();
    let mut other = Ledger::open(&run.path, true).unwrap();
    assert!(reader.read_only() && !run.ledger.read_only());
    run.ledger.write(0, "a", 0, "one", &[]).unwrap();
    assert_eq!(reader.info(0, "a", 0).unwrap().as_deref(), Some("one"));
    assert!(other.is_done(0, "a", 0).unwrap());
    let refused = other.write(0, "b", 0, "", &[]);
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    drop(run.ledger);
    let mut next = Ledger::open(&run.path, false).unwrap();
    next.write(0, "b", 0, "", &[]).unwrap();
    assert_eq!(reader.units(Some(0), None).unwrap().len(), 2);
    assert_eq!(reader.units(None, Some("b")).unwrap().len(), 1);
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    for (name, content, says) in [
        ("empty", String::new(), "empty"),
        ("short", "SQLite format 3\0".into(), "cut off"),
        ("text", "once upon a time\n".repeat(100), "no SQLite file"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &content).unwrap();
        for read_only in [false, true] {
            let error = Ledger::open(&path, read_only).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let error = Ledger::open(folder.path(), true).unwrap_err();
    assert!(error.to_string().contains("it is a folder"), "{error}");
    let missing = Ledger::open(&folder.path().join("missing"), false).unwrap_err();
    assert!(matches!(missing, Error::Io(ref io) if io.kind() == std::io::ErrorKind::NotFound));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no file was added");
}

#[test]
fn another_version_and_another_program_are_told_apart() {
    let run = run();
    drop(run.ledger);
    let mut bytes = fs::read(&run.path).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&run.path, &bytes).unwrap();
    let error = Ledger::open(&run.path, true).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Version {
                found: 99,
                expected: VERSION,
                ..
            }
        ),
        "{error:?}"
    );
    bytes[68..72].copy_from_slice(&0_u32.to_be_bytes());
    fs::write(&run.path, &bytes).unwrap();
    let error = Ledger::open(&run.path, true).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
}

#[test]
fn a_truncated_or_overwritten_store_is_damaged() {
    let run = run_with_prompts(200, 0);
    drop(run.ledger);
    let whole = fs::read(&run.path).unwrap();
    let pages = whole.len() / 4096;
    for keep in (1..pages).map(|page| page * 4096).chain([200, 5000, whole.len() - 1]) {
        fs::write(&run.path, &whole[..keep]).unwrap();
        let error = Ledger::open(&run.path, true).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{keep}: {error:?}");
    }
    for page in 1..pages {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
        fs::write(&run.path, &bytes).unwrap();
        let error = Ledger::open(&run.path, false).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{page}: {error:?}");
    }
    fs::write(&run.path, &whole).unwrap();
    assert_eq!(count(&Ledger::open(&run.path, false).unwrap(), "prompts"), 200);
}

#[test]
fn every_table_refuses_changes() {
    let mut run = run_with_prompts(2, 0);
    run.ledger.write(0, "x", 0, "", &[]).unwrap();
    drop(run.ledger);
    let conn = rusqlite::Connection::open(&run.path).unwrap();
    conn.pragma_update(None, "recursive_triggers", true).unwrap();
    for sql in [
        "UPDATE prompts SET tags = 'x'",
        "DELETE FROM prompts",
        "UPDATE meta SET value = 'x'",
        "DELETE FROM units",
        "INSERT OR REPLACE INTO units VALUES (0, 'x', 0, 'other')",
    ] {
        let error = conn.execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("never changed"), "{sql}: {error}");
    }
    let unguarded: i64 = conn
        .query_row(
            "SELECT count(*) FROM sqlite_schema AS t WHERE t.type = 'table' AND t.name <> 'leases' AND 2 <>
             (SELECT count(*) FROM sqlite_schema AS g WHERE g.type = 'trigger' AND g.tbl_name = t.name)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(unguarded, 0);
}

#[test]
fn queries_read_and_nothing_else() {
    let run = run_with_prompts(3, 1);
    let ledger = &run.ledger;
    let sql = "-- the ids\nWITH t AS (SELECT * FROM prompts) SELECT prompt_id AS id FROM t WHERE position > ?";
    let found = ledger.query(sql, &[Value::Int(1)]).unwrap();
    assert_eq!(found.columns, ["id"]);
    assert_eq!(found.rows, [[text("p2")], [text("p3")]]);
    for sql in [
        "DELETE FROM prompts",
        "INSERT INTO meta VALUES ('a', 'b') RETURNING key",
        "WITH x AS (SELECT 1) DELETE FROM prompts",
        "PRAGMA journal_mode = delete",
        "PRAGMA locking_mode = exclusive",
        "ATTACH 'x' AS y",
        "BEGIN",
        "CREATE TEMP TABLE t (a)",
        "VACUUM",
        "SELECT 1; SELECT 2",
        "SELECT nothing FROM prompts",
        "SELECT raise(ABORT, 'x')",
        "SELECT ?",
        "",
        "--",
    ] {
        let error = ledger.query(sql, &[]).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{sql}: {error:?}");
    }
    for wrong in [Value::Unsigned(u64::MAX), Value::Real(f64::NAN)] {
        assert!(matches!(ledger.query("SELECT ?", &[wrong]), Err(Error::Invalid(_))));
    }
    let all = [
        Value::Null,
        Value::Int(-1),
        Value::Real(f64::INFINITY),
        text("é\0"),
        Value::Blob(vec![0, 255]),
    ];
    assert_eq!(ledger.query("VALUES (?, ?, ?, ?, ?)", &all).unwrap().rows, [all]);
    assert!(ledger.check().unwrap().is_empty());
}

#[test]
fn a_fork_is_a_whole_store_that_goes_its_own_way() {
    let mut run = run_with_prompts(5, 0);
    let copy = run.folder.path().join("control.sqlite");
    run.ledger.fork(&copy).unwrap();
    assert!(matches!(run.ledger.fork(&copy), Err(Error::Conflict(_))));
    run.ledger.write(1, "a", 0, "", &[]).unwrap();
    let mut control = Ledger::open(&copy, false).unwrap();
    control.write(1, "b", 0, "", &[]).unwrap();
    assert_eq!(count(&control, "prompts"), 5);
    assert_eq!(control.meta().unwrap(), meta());
    assert!(!control.is_done(1, "a", 0).unwrap() && !run.ledger.is_done(1, "b", 0).unwrap());
    assert!(control.check().unwrap().is_empty());
    let double = control.write(
        2,
        "c",
        0,
        "",
        &[rows("prompts", &["prompt_id"], vec![vec![text("p1")]])],
    );
    assert!(
        matches!(double, Err(Error::Invalid(_) | Error::Conflict(_))),
        "{double:?}"
    );
    let from_reader = run.folder.path().join("third.sqlite");
    Ledger::open(&copy, true).unwrap().fork(&from_reader).unwrap();
    assert!(Ledger::open(&from_reader, true).unwrap().is_done(1, "b", 0).unwrap());
}
