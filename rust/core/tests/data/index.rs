//! The index that grows: the same clusters in whatever batches rows come, and what becomes of its file.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tso_core::Error;
use tso_core::dedup::index::{Index, IndexOptions};
use tso_core::dedup::{Keep, Link, Mode, TextOptions, TextResult, dedup_texts, reason};
use tso_core::run::{Stop, on_threads};

use crate::twin::{self, Text};
use crate::{Batch, threshold};

const OPTIONS: IndexOptions = IndexOptions {
    ngram: 5,
    threshold: 0.8,
    link: Link::Component,
};

fn whole(texts: &[Text], groups: Option<&[i64]>, options: IndexOptions) -> TextResult {
    let IndexOptions { ngram, threshold, link } = options;
    let options = TextOptions {
        ngram,
        threshold,
        mode: Mode::Lsh,
        link,
        keep: Keep::First,
        groups,
    };
    dedup_texts(&Batch::new(texts).ragged(), options, &Stop::default()).unwrap()
}

/// Where batches end: sorted places within so many rows.
fn cuts(rows: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..=rows, 0..5).prop_map(move |mut cuts| {
        cuts.extend([0, rows]);
        cuts.sort_unstable();
        cuts
    })
}

fn add_all(index: &mut Index, texts: &[Text], groups: &[i64], cuts: &[usize]) -> Vec<TextResult> {
    let add = |cut: &[usize]| {
        let (start, end) = (cut[0], cut[1]);
        let batch = Batch::new(&texts[start..end]);
        index
            .add(&batch.ragged(), Some(&groups[start..end]), &Stop::default())
            .unwrap()
    };
    cuts.windows(2).map(add).collect()
}

fn open(path: &Path) -> Result<Index, Error> {
    Index::open(path, OPTIONS, &Stop::default())
}

proptest! {
    #[test]
    fn batches_change_nothing(
        (texts, groups, cuts) in crate::texts(40).prop_flat_map(|texts| {
            let rows = texts.len();
            (Just(texts), prop::collection::vec(0i64..2, rows), cuts(rows))
        }),
        (ngram, threshold, star, on_disk) in (1usize..5, threshold(), any::<bool>(), any::<bool>()),
    ) {
        let link = if star { Link::Star } else { Link::Component };
        let options = IndexOptions { ngram, threshold, link };
        let expected = whole(&texts, Some(&groups), options);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let new = || if on_disk { Index::open(&path, options, &Stop::default()) } else { Index::in_memory(options) };
        let mut index = new().unwrap();
        let results = add_all(&mut index, &texts, &groups, &cuts);
        prop_assert_eq!(index.clusters(), expected.cluster.clone());
        prop_assert_eq!(results.iter().map(|result| result.uncompared).sum::<u64>(), expected.uncompared);
        let edges: Vec<_> = results.iter().flat_map(|result| &result.edges).collect();
        for edge in &edges {
            let (a, b) = (texts[edge.i as usize].as_ref().unwrap(), texts[edge.j as usize].as_ref().unwrap());
            prop_assert_eq!(twin::near(a, b, ngram, threshold), Some(edge.jaccard));
        }
        let clusters = (0..).zip(&expected.cluster).filter(|&(row, &cluster)| row == cluster).count();
        prop_assert_eq!(edges.len(), texts.len() - clusters);
        if on_disk {
            drop(index);
            prop_assert_eq!(new().unwrap().clusters(), expected.cluster);
        }
    }

    /// One batch is what `dedup_texts` says of it, reasons and all.
    #[test]
    fn one_batch_is_the_whole(texts in crate::texts(40), star: bool) {
        let options = IndexOptions { ngram: 3, threshold: 0.6, link: if star { Link::Star } else { Link::Component } };
        let (expected, mut index) = (whole(&texts, None, options), Index::in_memory(options).unwrap());
        let found = index.add(&Batch::new(&texts).ragged(), None, &Stop::default()).unwrap();
        prop_assert_eq!((found.keep, found.cluster, found.reason), (expected.keep, expected.cluster, expected.reason));
    }
}

/// Rows of a crowd: more than a text is compared with.
const ROWS: usize = 400;

/// Nearly equal texts, so many that one key is too much of a crowd to compare in full.
fn crowd() -> Vec<Text> {
    (0..ROWS)
        .map(|i| Some((100..140).chain([1000 + i as u32]).collect()))
        .collect()
}

#[test]
fn a_crowd_is_the_same_crowd_in_batches() {
    let texts = crowd();
    for link in [Link::Component, Link::Star] {
        let options = IndexOptions { link, ..OPTIONS };
        let expected = whole(&texts, None, options);
        for size in [7, 150] {
            let mut index = Index::in_memory(options).unwrap();
            let cuts: Vec<usize> = (0..=ROWS).step_by(size).chain([ROWS]).collect();
            let results = add_all(&mut index, &texts, &vec![0; ROWS], &cuts);
            assert_eq!(index.clusters(), expected.cluster, "{size} at a time");
            let uncompared: u64 = results.iter().map(|result| result.uncompared).sum();
            assert_eq!(uncompared, expected.uncompared, "{size} at a time");
        }
    }
}

#[test]
fn threads_change_nothing() {
    let texts = crowd();
    let run = |threads| {
        on_threads(Some(threads), || {
            let mut index = Index::in_memory(OPTIONS)?;
            Ok((
                add_all(&mut index, &texts, &vec![0; ROWS], &[0, 100, ROWS])
                    .pop()
                    .unwrap()
                    .edges,
                index.clusters(),
            ))
        })
        .unwrap()
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(8));
}

#[test]
fn a_bridge_joins_what_had_stayed() {
    let row = |tokens: std::ops::Range<u32>| vec![Some(tokens.collect())];
    let mut index = Index::in_memory(OPTIONS).unwrap();
    let mut add = |texts: Vec<Text>| index.add(&Batch::new(&texts).ragged(), None, &Stop::default()).unwrap();
    assert_eq!(add(row(0..100)).keep, [true]);
    assert_eq!(add(row(14..114)).keep, [true]);
    let bridge = add(row(7..107));
    assert_eq!(
        (bridge.keep, bridge.cluster, bridge.reason),
        (vec![false], vec![0], vec![reason::NEAR])
    );
    assert_eq!(index.clusters(), [0, 0, 0]);
}

#[test]
fn at_most_128_bytes_a_row() {
    let texts: Vec<Text> = (0..20_000).map(|i| Some((i * 50..i * 50 + 40).collect())).collect();
    for size in [100, 20_000] {
        let mut index = Index::in_memory(OPTIONS).unwrap();
        let cuts: Vec<usize> = (0..=20_000).step_by(size).collect();
        add_all(&mut index, &texts, &vec![0; 20_000], &cuts);
        let bytes = index.bytes() as f64 / index.rows() as f64;
        assert!(bytes <= 128.0, "{bytes} bytes a row");
    }
}

/// An index with two batches in a file, and the file as it was after the first.
fn two_batches(path: &Path) -> (Vec<i64>, Vec<u8>) {
    let mut index = open(path).unwrap();
    let texts = [Some((0..9).collect()), None, Some(vec![]), Some((0..9).collect())];
    add_all(&mut index, &texts, &[0; 4], &[0, 4]);
    let first = fs::read(path).unwrap();
    add_all(
        &mut index,
        &[Some((20..40).collect()), Some((0..9).collect())],
        &[0; 2],
        &[0, 2],
    );
    (index.clusters(), first)
}

#[test]
fn a_file_cut_anywhere_says_that_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (full, cut) = (folder.path().join("full"), folder.path().join("cut"));
    let (clusters, _) = two_batches(&full);
    let bytes = fs::read(&full).unwrap();
    for end in 0..=bytes.len() {
        fs::write(&cut, &bytes[..end]).unwrap();
        match (open(&cut), end) {
            (Ok(index), 0) => assert_eq!(index.rows(), 0),
            (Ok(index), end) if end == bytes.len() => assert_eq!(index.clusters(), clusters),
            (Err(Error::BadIndex { .. }), end) if end > 0 => assert_eq!(fs::read(&cut).unwrap(), bytes[..end]),
            (found, end) => panic!("cut at {end}: {found:?}"),
        }
    }
}

#[test]
fn no_zeros_pass_for_an_unfinished_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (full, zeroed) = (folder.path().join("full"), folder.path().join("zeroed"));
    let (_, first) = two_batches(&full);
    let bytes = fs::read(&full).unwrap();
    for (start, end) in [
        (0, bytes.len()),
        (64, first.len()),
        (first.len(), bytes.len()),
        (64, bytes.len()),
    ] {
        let mut other = bytes.clone();
        other[start..end].fill(0);
        fs::write(&zeroed, &other).unwrap();
        assert!(
            matches!(open(&zeroed), Err(Error::BadIndex { .. })),
            "zeros from {start} to {end}"
        );
    }
}

#[test]
fn a_file_that_is_no_index_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    for other in [&b"milk\n"[..], &[b'x'; 63], &[0], &[0; 64], &[0; 5000]] {
        fs::write(&path, other).unwrap();
        assert!(matches!(open(&path), Err(Error::BadIndex { .. })));
        assert_eq!(fs::read(&path).unwrap(), other);
    }
    fs::write(&path, []).unwrap();
    assert_eq!(open(&path).unwrap().rows(), 0);
    assert_eq!(open(&path).unwrap().rows(), 0);
}

#[test]
fn a_batch_that_was_being_written_is_dropped_and_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (full, torn) = (folder.path().join("full"), folder.path().join("torn"));
    let (clusters, first) = two_batches(&full);
    let bytes = fs::read(&full).unwrap();
    let (start, header) = (first.len(), first.len() + 64);
    for end in start..=bytes.len() {
        // Killed before the header was written, and so before the front said that there is a second batch.
        let tail = [vec![0; end.min(header) - start], bytes[header.min(end)..end].to_vec()].concat();
        fs::write(&torn, [first.clone(), tail].concat()).unwrap();
        let mut index = open(&torn).unwrap();
        assert_eq!(index.clusters(), clusters[..4]);
        add_all(
            &mut index,
            &[Some((20..40).collect()), Some((0..9).collect())],
            &[0; 2],
            &[0, 2],
        );
        drop(index);
        assert_eq!(fs::read(&torn).unwrap(), bytes);
    }
}

#[test]
fn a_batch_that_the_front_does_not_tell_of_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (full, killed) = (folder.path().join("full"), folder.path().join("killed"));
    let (clusters, first) = two_batches(&full);
    let bytes = fs::read(&full).unwrap();
    fs::write(&killed, [&first[..64], &bytes[64..]].concat()).unwrap(); // killed right after the header was written
    assert_eq!(open(&killed).unwrap().clusters(), clusters);
}

#[test]
fn a_changed_byte_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (full, changed) = (folder.path().join("full"), folder.path().join("changed"));
    let (clusters, _) = two_batches(&full);
    let bytes = fs::read(&full).unwrap();
    for place in 0..bytes.len() {
        let mut other = bytes.clone();
        other[place] ^= 0x10;
        fs::write(&changed, &other).unwrap();
        match open(&changed) {
            Err(Error::BadIndex { .. }) => {}
            // What fills a batch up to its end says nothing.
            Ok(index) => assert_eq!(index.clusters(), clusters, "byte {place}"),
            Err(other) => panic!("byte {place}: {other}"),
        }
    }
}

#[test]
fn options_locks_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let (clusters, _) = two_batches(&path);
    for options in [
        IndexOptions { ngram: 4, ..OPTIONS },
        IndexOptions {
            threshold: 0.7,
            ..OPTIONS
        },
        IndexOptions {
            link: Link::Star,
            ..OPTIONS
        },
    ] {
        let error = Index::open(&path, options, &Stop::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("was made with ngram=5, threshold=0.8, link=component"),
            "{error}"
        );
    }
    let mut index = open(&path).unwrap();
    assert!(matches!(open(&path), Err(Error::Locked { .. })));
    let stop = Stop::default();
    stop.request();
    let batch = Batch::new(&[Some((500..600).collect())]);
    assert!(matches!(index.add(&batch.ragged(), None, &stop), Err(Error::Stopped)));
    assert!(matches!(
        index.add(&batch.ragged(), Some(&[]), &Stop::default()),
        Err(Error::Invalid(_))
    ));
    assert_eq!(index.clusters(), clusters);
    index.add(&batch.ragged(), None, &Stop::default()).unwrap();
    drop(index);
    assert_eq!(open(&path).unwrap().rows(), clusters.len() + 1);
}
