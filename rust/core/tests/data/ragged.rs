//! Batches of every id and offset type read the same, and bad ones are refused.

use proptest::prelude::*;
use tso_core::Error;
use tso_core::ragged::{Ids, Offsets, Ragged, Texts};

fn read(batch: &Ragged<'_>) -> Vec<Option<Vec<u32>>> {
    let mut buffer = vec![];
    (0..batch.rows())
        .map(|row| batch.read(row, &mut buffer).map(<[u32]>::to_vec))
        .collect()
}

fn refused(ids: Ids<'_>, offsets: Offsets<'_>, nulls: Option<Vec<bool>>) -> String {
    match Ragged::new(ids, offsets, nulls) {
        Err(Error::Invalid(message)) => message,
        other => panic!("not refused: {other:?}"),
    }
}

proptest! {
    #[test]
    fn every_type_reads_the_same(texts in crate::texts(12), skip in 0usize..3) {
        let flat: Vec<i64> = (0..skip as i64).map(|_| -1).chain(texts.iter().flatten().flatten().map(|&t| i64::from(t))).collect();
        let mut offsets = vec![skip as i64];
        for text in &texts {
            offsets.push(offsets.last().unwrap() + text.as_ref().map_or(0, Vec::len) as i64);
        }
        let short: Vec<i32> = offsets.iter().map(|&o| o as i32).collect();
        let nulls: Vec<bool> = texts.iter().map(Option::is_none).collect();
        let (narrow, small): (Vec<u32>, Vec<i32>) = flat.iter().map(|&id| (id as u32, id as i32)).unzip();
        for ids in [Ids::I64(&flat), Ids::U32(&narrow), Ids::I32(&small)] {
            for offsets in [Offsets::I32(&short), Offsets::I64(&offsets)] {
                let batch = Ragged::new(ids, offsets, Some(nulls.clone())).unwrap();
                prop_assert_eq!(read(&batch), texts.clone());
                for (row, text) in texts.iter().enumerate() {
                    prop_assert_eq!(batch.length(row), text.as_ref().map_or(0, Vec::len));
                }
            }
        }
    }
}

#[test]
fn ids_that_are_no_u32_are_refused_by_row() {
    let message = refused(Ids::I64(&[1, 2, -3]), Offsets::I64(&[0, 2, 3]), None);
    assert_eq!(message, "row 1 holds token id -3; ids have to lie in 0..=4294967295");
    assert!(refused(Ids::I64(&[1 << 32]), Offsets::I32(&[0, 1]), None).contains("4294967296"));
    assert!(refused(Ids::I32(&[-1]), Offsets::I32(&[0, 1]), Some(vec![false])).contains("row 0"));
}

#[test]
fn rows_checked_later_say_the_same() {
    let (ids, offsets) = (Ids::I32(&[1, 2, -3, 4, -5]), Offsets::I64(&[0, 2, 3, 4, 5]));
    for (nulls, sound) in [
        (Some(vec![false, false, false, true]), [true, false, true, true]),
        (None, [true, false, true, false]),
    ] {
        let message = refused(ids, offsets, nulls.clone());
        let batch = Ragged::unchecked(ids, offsets, nulls).unwrap();
        for start in 0..batch.rows() {
            for end in start..=batch.rows() {
                match batch.check(start..end) {
                    Ok(()) => assert!(sound[start..end].iter().all(|&sound| sound)),
                    Err(Error::Invalid(late)) => {
                        assert!(sound[start..end].contains(&false));
                        assert_eq!(late, message);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(matches!(batch.checked(), Err(Error::Invalid(late)) if late == message));
    }
}

#[test]
fn what_lies_beneath_a_null_row_does_not_matter() {
    let batch = Ragged::new(Ids::I32(&[-1, 7]), Offsets::I32(&[0, 1, 2]), Some(vec![true, false])).unwrap();
    assert_eq!(read(&batch), [None, Some(vec![7])]);
}

#[test]
fn offsets_are_checked() {
    for offsets in [&[][..], &[-1, 0], &[0, 2, 1], &[0, 4]] {
        refused(Ids::U32(&[1, 2, 3]), Offsets::I64(offsets), None);
    }
    assert!(refused(Ids::U32(&[]), Offsets::I64(&[0, 0]), Some(vec![])).contains("null mask"));
    assert_eq!(Ragged::new(Ids::U32(&[]), Offsets::I64(&[0]), None).unwrap().rows(), 0);
}
