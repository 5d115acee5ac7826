//! Samplers that share a plan: who gets which batch, what a lost lease is worth, and who is let in.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ledger_support::{Run, answers, count, planned};
use proptest::prelude::*;
use tso_core::Error;
use tso_core::ledger::{Ledger, PlanRequest};
use tso_core::run::Stop;

const LONG: Duration = Duration::from_secs(600);

/// Six batches of two draws, and nobody at work.
fn shared() -> Shared {
    let Run { folder, path, ledger } = planned(4, 3, 2);
    drop(ledger);
    Shared { _folder: folder, path }
}

struct Shared {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

fn lease(sampler: &mut Ledger) -> Option<i64> {
    sampler.lease(1, "train", LONG).unwrap()
}

fn record(sampler: &mut Ledger, batch: i64) -> Result<(), Error> {
    sampler.record(1, "train", batch, &answers(2))
}

/// Moves the beginning and the end of all leases, as a clock that is set would.
fn shift(path: &Path, seconds: i64) {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.execute(
        "UPDATE leases SET granted = granted + 1000 * ?1, expires = expires + 1000 * ?1",
        [seconds],
    )
    .unwrap();
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, says: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert!(error.to_string().contains(says), "{says:?}: {error}");
}

#[test]
fn samplers_get_different_batches_until_none_is_left() {
    let shared = shared();
    let mut a = Ledger::join(&shared.path, "a").unwrap();
    let mut b = Ledger::join(&shared.path, "b").unwrap();
    let held: Vec<_> = (0..3).flat_map(|_| [lease(&mut a), lease(&mut b)]).flatten().collect();
    assert_eq!(held, [0, 1, 2, 3, 4, 5]);
    assert_eq!(lease(&mut a), None);
    assert_eq!(a.pending(1, "train").unwrap().len(), 6, "none is recorded yet");
    for batch in [1, 3, 5] {
        record(&mut b, batch).unwrap();
    }
    a.release(1, "train", 2).unwrap();
    assert_eq!(lease(&mut b), Some(2));
    record(&mut b, 2).unwrap();
    for batch in [0, 4] {
        record(&mut a, batch).unwrap();
    }
    assert_eq!(lease(&mut a), None);
    assert!(a.pending(1, "train").unwrap().is_empty());
    assert_eq!((count(&a, "responses"), count(&a, "leases")), (12, 0));
    assert!(a.check().unwrap().is_empty());
}

#[test]
fn a_lease_that_ran_out_may_be_taken_over_and_only_one_of_the_two_records() {
    let shared = shared();
    let mut slow = Ledger::join(&shared.path, "slow").unwrap();
    let mut quick = Ledger::join(&shared.path, "quick").unwrap();
    assert_eq!((lease(&mut slow), lease(&mut slow)), (Some(0), Some(1)));
    shift(&shared.path, -601);
    record(&mut slow, 1).unwrap();
    assert_eq!(lease(&mut quick), Some(0));
    refused(
        record(&mut slow, 0),
        r#"does not hold batch 0 of iteration 1: it is leased by "quick""#,
    );
    refused(slow.renew(1, "train", 0, LONG), r#"leased by "quick""#);
    refused(slow.release(1, "train", 0), r#"leased by "quick""#);
    record(&mut quick, 0).unwrap();
    refused(record(&mut slow, 0), "it is recorded");
    refused(record(&mut slow, 3), "leased by nobody");
    refused(record(&mut quick, 0), "it is recorded");
    assert_eq!(count(&quick, "responses"), 4);
    // Renewed in time, a lease stays; also after it ran out, while nobody has taken the batch.
    assert_eq!(lease(&mut slow), Some(2));
    for _ in 0..2 {
        shift(&shared.path, -601);
        slow.renew(1, "train", 2, LONG).unwrap();
    }
    assert_eq!(lease(&mut quick), Some(3));
    record(&mut slow, 2).unwrap();
}

#[test]
fn a_clock_that_is_set_back_frees_what_was_leased_and_loses_nothing() {
    let shared = shared();
    let mut a = Ledger::join(&shared.path, "a").unwrap();
    let mut b = Ledger::join(&shared.path, "b").unwrap();
    assert_eq!(lease(&mut a), Some(0));
    shift(&shared.path, 3600);
    assert_eq!(
        lease(&mut b),
        Some(0),
        "a lease from the future would otherwise last an hour too long"
    );
    refused(record(&mut a, 0), "leased by \"b\"");
    record(&mut b, 0).unwrap();
}

#[test]
fn a_sampler_that_comes_back_finds_its_old_leases_free() {
    let shared = shared();
    let mut a = Ledger::join(&shared.path, "a").unwrap();
    let mut b = Ledger::join(&shared.path, "b").unwrap();
    assert_eq!((lease(&mut a), lease(&mut b)), (Some(0), Some(1)));
    drop(a);
    assert_eq!(lease(&mut b), Some(2), "to others it stays leased");
    let mut again = Ledger::join(&shared.path, "a").unwrap();
    refused(record(&mut again, 0), "leased by nobody");
    assert_eq!(lease(&mut again), Some(0));
}

#[test]
fn one_writer_or_several_samplers() {
    let shared = shared();
    let mut a = Ledger::join(&shared.path, "a").unwrap();
    refused(Ledger::join(&shared.path, "a"), "a sampler named \"a\" is at work");
    let writer = Ledger::open(&shared.path, false);
    assert!(matches!(writer, Err(Error::Locked { .. })), "{writer:?}");
    for (error, says) in [
        (a.write(1, "x", 0, "", &[]).unwrap_err(), "joined for sampling"),
        (
            a.plan_draws(other_plan(), &Stop::default()).unwrap_err(),
            "joined for sampling",
        ),
        (a.lease(2, "train", LONG).unwrap_err(), "no plan of draws"),
        (a.lease(1, "train", Duration::ZERO).unwrap_err(), "a lease of 0 s"),
        (a.lease(1, "train", 2000 * LONG).unwrap_err(), "at most 604800 s"),
        (a.renew(1, "train", 6, LONG).unwrap_err(), "batch 6 is not in the plan"),
    ] {
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    for name in ["", "a/b", "..\\a", "é", &"x".repeat(65)] {
        let error = Ledger::join(&shared.path, name).unwrap_err();
        assert!(error.to_string().contains("no name for a sampler"), "{error}");
    }
    assert_eq!(lease(&mut a), Some(0));
    drop(a);
    let mut writer = Ledger::open(&shared.path, false).unwrap();
    let joined = Ledger::join(&shared.path, "a");
    assert!(matches!(joined, Err(Error::Locked { .. })), "{joined:?}");
    let error = writer.lease(1, "train", LONG).unwrap_err();
    assert!(error.to_string().contains("was not joined"), "{error}");
    // Nobody samples beside a writer: it needs no lease, and one that was left behind is not in its way.
    record(&mut writer, 0).unwrap();
    assert_eq!(count(&writer, "leases"), 0);
}

fn other_plan() -> PlanRequest {
    PlanRequest {
        iteration: 2,
        purpose: "train".into(),
        run_seed: 0,
        prompts: vec!["p0".into()],
        cells: vec![],
        batch_size: 1,
    }
}

/// What a sampler does next.
#[derive(Debug, Clone)]
enum Step {
    Lease(usize),
    Record(usize, i64),
    Release(usize, i64),
    /// It is killed and comes back.
    Return(usize),
    /// All leases run out.
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    let (who, batch) = (0_usize..3, 0_i64..6);
    prop_oneof![
        4 => who.clone().prop_map(Step::Lease),
        4 => (who.clone(), batch.clone()).prop_map(|(who, batch)| Step::Record(who, batch)),
        1 => (who.clone(), batch).prop_map(|(who, batch)| Step::Release(who, batch)),
        1 => who.prop_map(Step::Return),
        1 => Just(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The twin: a table of who holds what and whether that ran out, and a set of what is recorded.
    #[test]
    fn leases_go_as_in_a_table(steps in prop::collection::vec(step(), 1..40)) {
        let shared = shared();
        let name = |who: usize| format!("s{who}");
        let join = |who: usize| Ledger::join(&shared.path, &name(who)).unwrap();
        let mut samplers: Vec<Option<Ledger>> = (0..3).map(|who| Some(join(who))).collect();
        let mut held: BTreeMap<i64, (usize, bool)> = BTreeMap::new();
        let mut recorded = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Lease(who) => {
                    let free = (0..6).find(|b| !recorded.contains(b) && held.get(b).is_none_or(|(_, out)| *out));
                    prop_assert_eq!(lease(samplers[who].as_mut().unwrap()), free);
                    held.extend(free.map(|batch| (batch, (who, false))));
                }
                Step::Record(who, batch) => {
                    let fits = held.get(&batch).is_some_and(|(holder, _)| *holder == who);
                    prop_assert_eq!(record(samplers[who].as_mut().unwrap(), batch).is_ok(), fits);
                    if fits {
                        held.remove(&batch);
                        prop_assert!(recorded.insert(batch));
                    }
                }
                Step::Release(who, batch) => {
                    let fits = held.get(&batch).is_some_and(|(holder, _)| *holder == who);
                    let released = samplers[who].as_mut().unwrap().release(1, "train", batch);
                    prop_assert_eq!(released.is_ok(), fits);
                    if fits {
                        held.remove(&batch);
                    }
                }
                Step::Return(who) => {
                    samplers[who] = None;
                    samplers[who] = Some(join(who));
                    held.retain(|_, (holder, _)| *holder != who);
                }
                Step::Pass => {
                    shift(&shared.path, -601);
                    held.values_mut().for_each(|(_, out)| *out = true);
                }
            }
        }
        let reader = samplers[0].as_ref().unwrap();
        prop_assert_eq!(count(reader, "responses"), 2 * recorded.len() as i64);
        prop_assert!(reader.check().unwrap().is_empty());
    }
}
